"""The path from a teacher to a signed package, with the proof at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedetr.export.verify.limits import FP16_LIMITS, FP32_LIMITS, INT8_LIMITS
from figures.drawing import LINE, WIDTH, Drawing

if TYPE_CHECKING:
    from edgedetr.export.verify.limits import Limits

BOX = 168
"""Width of a file's box."""
NODE = 34
"""Height of it."""
HALF = WIDTH / 2 + 4
"""Where the right one of two columns begins."""


@dataclass(frozen=True)
class Step:
    """One arrow: the command, what must hold, and the file that it leads to."""

    command: str
    proof: tuple[str, ...]
    file: str


def _kept(limits: Limits) -> tuple[str, ...]:
    """Return when a detection is kept, a condition a line."""
    return tuple(f"Kept: {limits.describe()}.".replace(", ", ",\n").splitlines())


BEFORE = (
    Step(
        "distill train",
        ("AP on held-out frames, beside the teacher's.",
         "The weights that were best by it are kept."),
        "student.safetensors",
    ),
    Step(
        "export onnx",
        (f"Every detection: {FP32_LIMITS.describe()}.",
         "Only operators and sizes that TensorRT takes."),
        "student.onnx",
    ),
)  # fmt: skip
BESIDE = (
    Step(
        "export fp16",
        (*_kept(FP16_LIMITS), f"At most {FP16_LIMITS.lost_share:.0%} lost, by its bound."),
        "student.fp16.onnx",
    ),
    Step(
        "export qdq",
        (*_kept(INT8_LIMITS), f"At most {INT8_LIMITS.lost_share:.0%} lost, by its bound."),
        "student.int8.onnx",
    ),
)  # fmt: skip
AFTER = (
    Step(
        "package",
        ("Every model has a chain of passed reports, by hash, from the",
         "checkpoint; ranges and report are its own. Signed."),
        "student.tar",
    ),
    Step(
        "run",
        ("Signature, each file's hash, no older than the last one;",
         "it computes here what it computed where it was made."),
        "detections",
    ),
)  # fmt: skip
STEP = NODE + 3 * LINE + 36
"""From one file to the next."""


def path() -> Drawing:
    """Draw the files below one another, and what must hold between them."""
    rows = ((0.0, BEFORE[0]), (0.0, BEFORE[1]), None, (0.0, AFTER[0]), (0.0, AFTER[1]))
    drawing = Drawing(
        "path",
        "From teacher and data set to a signed package in the vehicle: the files, the command "
        "between two of them, and what it proves.",
        NODE + STEP * len(rows) + 4,
    )
    _node(drawing, 0, 2, "teacher + data set")
    for index, row in enumerate(rows):
        top = 2 + NODE + index * STEP
        if row:
            _step(drawing, top, *row)
            continue
        _step(drawing, top, 0, BESIDE[0])
        _step(drawing, top, HALF, BESIDE[1])
        drawing.path([(BOX, top - NODE / 2), (HALF + 20, top - NODE / 2), (HALF + 20, top)])
        below = top + STEP
        drawing.path([(HALF + 20, below), (HALF + 20, below + 10), (20, below + 10)])
    return drawing


def _step(drawing: Drawing, top: float, left: float, step: Step) -> None:
    """Draw an arrow with its command and proof, and the file below."""
    drawing.arrow(left + 20, top, left + 20, top + STEP - NODE - 2)
    drawing.text(left + 34, top + 26, f"edgedetr {step.command}", "blue", bold=True)
    drawing.lines(left + 34, top + 26 + LINE + 1, step.proof)
    _node(drawing, left, top + STEP - NODE, step.file)


def _node(drawing: Drawing, left: float, top: float, name: str) -> None:
    drawing.rect(left + 1, top, BOX, NODE, "panel")
    drawing.text(left + 12, top + 22, name, bold=True)
