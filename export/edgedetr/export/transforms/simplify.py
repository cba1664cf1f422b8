"""Fold what is constant out of an ONNX graph with onnxsim, or go on without it.

Layers that compute more rows than the selected queries need are moved behind the selection, see
`edgedetr.export.transforms.row_choice`.

onnxsim may crash or never end, so it runs in a process of its own with a time limit, and what it
gives back is used only where its outputs are those of before.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from edgedetr.export.transforms.row_choice import rows_chosen_first
from edgedetr.graph.exact import exact_session, run_session
from edgedetr.graph.sampling_plugin import define_plugin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TIME_LIMIT_S = 120.0
DIFFERENCE_LIMIT = 1e-3
"""Largest difference of a logit, or of a box side as a fraction of the input, that may appear."""

# The skipped fusions make nodes that no longer say which part of the network they come from, and
# whoever quantizes the graph must know. Engine builders and ONNX Runtime fuse them themselves.
# onnxsim loads torch wherever it is installed, which takes seconds, and simplifies without it.
_SCRIPT = """
import sys
sys.modules["torch"] = None
import onnx, onnxsim
skipped = ["fuse_matmul_add_bias_into_gemm", "fuse_matmul_add_bias_into_gemm_batched", "fuse_qkv"]
model, _ = onnxsim.simplify(onnx.load(sys.argv[1]), skipped_optimizers=skipped)
onnx.save(model, sys.argv[2])
"""
COMMAND = (sys.executable, "-c", _SCRIPT)
"""The simplifier: a program that reads the file of its first argument and writes the second."""


@dataclass(frozen=True, eq=False)
class Simplified:
    """What came of it.

    Attributes:
        model: The simplified model; the one that was given where there was a problem.
        problem: Why the model could not be simplified, in a line; empty where it could.
    """

    model: onnx.ModelProto
    problem: str = ""


def simplify(
    model: onnx.ModelProto,
    time_limit_s: float = TIME_LIMIT_S,
    command: Sequence[str] = COMMAND,
) -> Simplified:
    """Simplify a detector, and fall back to the given one where that fails.

    Args:
        model: One float32 input of fixed shape; outputs of shape (1, Q, ...), a row per query. It
            is left as it is.
        time_limit_s: How long the simplifier may run.
        command: The simplifier.
    """
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        problem = _run([*command, str(before), str(after)], time_limit_s)
        if problem:
            return Simplified(model, problem)
        try:
            candidate = rows_chosen_first(onnx.load(after))
            define_plugin(candidate)
            onnx.checker.check_model(candidate, full_check=True)
        except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
            return Simplified(model, f"it wrote no whole model: {_line(str(error))}")
    problem = _difference_problem(model, candidate)
    return Simplified(model, problem) if problem else Simplified(candidate)


def _run(command: Sequence[str], time_limit_s: float) -> str:
    """Run a program to its end; return what went wrong."""
    try:
        done = subprocess.run(  # noqa: S603 - the program is ours
            command, capture_output=True, check=False, timeout=time_limit_s, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return f"it was not done after {time_limit_s:g} s"
    if done.returncode:
        return f"it ended with status {done.returncode}: {_line(done.stderr)}"
    return ""


def _line(text: str) -> str:
    """Return the last line of a text, where a traceback names its error."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _difference_problem(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    if _opsets(before) != _opsets(after):
        return f"its model needs the opsets {_opsets(after)} instead of {_opsets(before)}"
    try:
        difference = largest_difference(before, after)
    except Exception as error:  # its outputs may be of any shape
        return f"its model does not run: {_line(str(error))}"
    if not difference <= DIFFERENCE_LIMIT:
        return f"its outputs differ by {difference:.2g}"
    return ""


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {o.domain: o.version for o in model.opset_import}


def largest_difference(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """Run two models on the same random image; return how far their outputs are apart.

    Each query of either model is compared with the query of the other whose outputs are nearest,
    because the order of queries does not count.
    """
    tensor = before.graph.input[0].type.tensor_type
    shape = [d.dim_value for d in tensor.shape.dim]
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    a, b = _rows(before, images), _rows(after, images)
    apart = np.abs(a[:, None] - b[None, :]).max(axis=-1)
    return float(max(apart.min(axis=1).max(), apart.min(axis=0).max()))


def _rows(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a model on an image; return all outputs of a query as one row."""
    session = exact_session(model, "the model")
    outputs = run_session(session, None, {session.get_inputs()[0].name: images}, "the model")
    return np.concatenate([np.asarray(o)[0] for o in outputs], axis=-1)
