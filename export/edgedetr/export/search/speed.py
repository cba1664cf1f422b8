"""How fast an INT8 graph is beside the float ones, in the library that will run it.

Sessions take turns, and what counts is the middle of the ratios of all turns: whatever else the
machine does slows all of a turn alike.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from edgedetr.export.search.layer_times import layer_times
from edgedetr.export.transforms.halve import halve
from edgedetr.graph.metadata import set_metadata
from edgedetr.graph.wiring import LAYERS, Wiring, label
from edgedetr.runtime.backend_lookup import backend as find_backend
from edgedetr.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import Target
    from edgedetr.export.search.sensitivity import Candidate

Library = Literal["openvino", "onnxruntime"]

NAMES: dict[Library, str] = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}

TURNS = 15
_WARM_UP = 2  # runs of a turn that do not count: threads of the session before may still spin


@dataclass(frozen=True)
class Speed:
    """The time of one run of an INT8 graph, and of the float graphs beside it.

    Attributes:
        library: What ran them, for a reader.
        int8_ms: Median, in milliseconds.
        fp32_ms: Likewise.
        fp16_ms: Likewise, of the FP16 graph, which CPUs compute in FP32.
        speedup: How many times faster than the faster of the float graphs INT8 is.
        wanted: How many times it shall be.
    """

    library: str
    int8_ms: float
    fp32_ms: float
    fp16_ms: float
    speedup: float
    wanted: float

    @property
    def is_enough(self) -> bool:
        """Whether it is as fast as it shall be."""
        return self.speedup >= self.wanted

    def describe(self) -> str:
        """Describe it: ``0.97x in ONNX Runtime``, and the times."""
        return (
            f"{self.speedup:.2f}x in {self.library}: {self.int8_ms:.1f} ms, FP32 "
            f"{self.fp32_ms:.1f}, FP16 {self.fp16_ms:.1f}; wanted {self.wanted:g}x"
        )


def library_of(target: Target) -> Library:
    """Return the library that runs a target's graphs here.

    Raises:
        UsageError: If none does.
    """
    if target == "tensorrt":
        raise UsageError(
            "--min-speedup measures in OpenVINO or ONNX Runtime: give --for openvino or --for "
            "onnxruntime. Measure an engine on its device: edgedetr bench latency"
        )
    find_backend(target)
    return target


class Timer:
    """Times INT8 graphs of a model beside its float ones. Use it in a ``with`` statement.

    Args:
        model: The float32 model.
        stats: Its calibration.
        library: What runs it.
        wanted: How many times faster INT8 shall be.
    """

    def __init__(
        self, model: onnx.ModelProto, stats: CalibrationStats, library: Library, wanted: float
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._library: Library = library
        self._spec, self._wanted = stats.spec, wanted
        half, _ = halve(model, stats.spec, None, stats.magnitudes)
        self._float = {"fp32": self._saved(model, "fp32"), "fp16": self._saved(half, "fp16")}
        self._names = _layer_names(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def speed(self, int8: onnx.ModelProto) -> Speed:
        """Time an INT8 graph.

        Raises:
            ArtifactError: If the library does not run it.
        """
        times = self._in_turns({"int8": self._saved(int8, "int8"), **self._float})
        ratios = np.minimum(times["fp32"], times["fp16"]) / times["int8"]
        medians = {name: float(np.median(taken)) for name, taken in times.items()}
        return Speed(
            NAMES[self._library],
            medians["int8"],
            medians["fp32"],
            medians["fp16"],
            float(np.median(ratios)),
            self._wanted,
        )

    def saved_ms(
        self, int8: onnx.ModelProto, chosen: Sequence[Candidate]
    ) -> dict[Candidate, float]:
        """Return by how much the layers of each candidate are faster in INT8, by profiles.

        What rounds the input of a layer counts as a part of it.
        """
        before = self._of_layers(self._float["fp32"])
        after = self._of_layers(self._saved(int8, "int8"))
        return {
            candidate: sum(
                before.get(point.index, 0.0) - after.get(point.index, 0.0)
                for point in candidate.points
            )
            for candidate in chosen
        }

    def _of_layers(self, path: Path) -> dict[int, float]:
        """Add up the milliseconds of the kernels of each layer."""
        found: dict[int, float] = {}
        for names, taken_ms in layer_times(self._library, path, self._spec):
            owner = next((self._names[n] for n in names if n in self._names), None)
            if owner is not None:
                found[owner] = found.get(owner, 0.0) + taken_ms
        return found

    def _saved(self, model: onnx.ModelProto, name: str) -> Path:
        path = Path(self._folder.name) / f"{name}.onnx"
        named = onnx.ModelProto()
        named.CopyFrom(model)
        set_metadata(named, self._spec, ())
        onnx.save(named, path)
        return path

    def _in_turns(self, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
        module: Any = find_backend(self._library)
        sessions = {name: module.open_session(path, self._spec) for name, path in files.items()}
        taken: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(TURNS):
            for name, session in sessions.items():
                for _ in range(_WARM_UP):
                    session.infer()
                start_ns = perf_counter_ns()
                session.infer()
                taken[name].append((perf_counter_ns() - start_ns) / 1e6)
        for session in sessions.values():
            session.close()
        return {name: np.array(times) for name, times in taken.items()}


def _layer_names(model: onnx.ModelProto) -> dict[str, int]:
    """Map the names that a library's kernel may have to the layer that it computes.

    A kernel bears the names of what it was fused of, the layer, its bias and its ReLU, or of what
    it makes. What rounds a tensor is called after it, and belongs to what reads it.
    """
    wiring, names = Wiring(model.graph), {}
    for index, node in enumerate(wiring.nodes):
        if node.op_type not in LAYERS:
            continue
        names.update(dict.fromkeys(_chain(wiring, index), index))
        for made in _roundings(node.input[0]):
            names.setdefault(made, index)
    return names


def _chain(wiring: Wiring, index: int) -> Iterable[str]:
    """Name a layer, its bias and its ReLU, and what each makes."""
    node: onnx.NodeProto | None = wiring.nodes[index]
    while node is not None:
        yield label(node)
        yield node.output[0]
        readers = [wiring.nodes[i] for i in wiring.readers.get(node.output[0], [])]
        is_fused = [r.op_type for r in readers] in (["Add"], ["Relu"])
        is_fused = is_fused and all(
            n in wiring.constants or n == node.output[0] for n in readers[0].input
        )
        node = readers[0] if is_fused else None


def _roundings(tensor: str) -> Iterable[str]:
    """Name the nodes that round a tensor, see `edgedetr.export.transforms.qdq_nodes`."""
    return f"{tensor}_quantized_Q", f"{tensor}_dequantized_DQ"
