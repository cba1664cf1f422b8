"""The time that each kernel of a CPU library takes, with the names of the nodes it computes."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedetr.runtime.spec_checks.values import example_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgedetr.runtime.spec import ModelSpec

    Kernel = tuple[tuple[str, ...], float]
    """Names of ONNX nodes, and milliseconds."""

RUNS = 8
"""How often the model runs; the median counts."""

_TIMED = "_kernel_time"
"""What ONNX Runtime adds to the names of nodes that it times."""
_REWRITTEN = re.compile(r"(_nchwc|_token_\d+|/MatMulAddFusion\w*)+$")
"""What it adds to those that it lays out otherwise or fuses."""


def layer_times(
    library: Literal["openvino", "onnxruntime"], path: Path, spec: ModelSpec
) -> list[Kernel]:
    """Profile a file of static batch 1.

    Args:
        library: What runs it.
        path: The ONNX file.
        spec: Its contract.

    Returns:
        Of each kernel the names of the nodes that it computes, or of what they make, as far as they
        are known, and the milliseconds of one run.
    """
    profilers: dict[str, Callable[[Path, ModelSpec], Iterable[Kernel]]] = {
        "openvino": _in_openvino,
        "onnxruntime": _in_onnxruntime,
    }
    return list(profilers[library](path, spec))


def _in_openvino(path: Path, spec: ModelSpec) -> Iterable[Kernel]:
    """Read the times from the graph that runs."""
    from edgedetr.runtime.backends.openvino import compiled_graph, read_graph

    compiled = compiled_graph(read_graph(path), path, profiled=True)
    request = compiled.create_infer_request()
    image = example_input(spec)
    samples: dict[str, list[int]] = {}
    for _ in range(RUNS):
        request.infer({spec.input_name: image})
        for kernel in request.get_profiling_info():
            samples.setdefault(kernel.node_name, []).append(kernel.real_time.total_seconds() * 1e3)
    for node in compiled.get_runtime_model().get_ops():
        taken = samples.get(node.get_friendly_name())
        if taken:
            made_of = node.get_rt_info()["originalLayersNames"].astype(str)
            yield tuple(made_of.split(",")), float(np.median(taken))


def _in_onnxruntime(path: Path, spec: ModelSpec) -> Iterable[Kernel]:
    """Read the times from the file that ONNX Runtime writes of them."""
    from edgedetr.runtime.backends.onnxruntime import CPU, session_options, start_engine

    options = session_options()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as name:
        options.profile_file_prefix = str(Path(name) / "profile")
        engine = start_engine(path, options, [CPU])
        image = example_input(spec)
        for _ in range(RUNS):
            engine.run(None, {spec.input_name: image})
        events = json.loads(Path(engine.end_profiling()).read_text(encoding="utf-8"))
    samples: dict[str, list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_TIMED):
            samples.setdefault(event["name"].removesuffix(_TIMED), []).append(event["dur"] / 1e3)
    for node, taken in samples.items():
        yield (_REWRITTEN.sub("", node),), float(np.median(taken))
