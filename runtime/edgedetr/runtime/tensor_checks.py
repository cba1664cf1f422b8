"""Hold what an artifact takes and answers to what its spec says, the same for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec

    Tensors = Mapping[str, tuple[str, Sequence[int | str]]]

FLOAT = "float32"


def check_inputs(found: Tensors, spec: ModelSpec, path: Path) -> None:
    """Stop unless the only input is one image, float32 (1, 3, H, W).

    Args:
        found: Name of each input to its type and shape.
        spec: What is wanted.
        path: The artifact, for the message.

    Raises:
        ArtifactError: If the model takes something else.
    """
    wanted = {spec.input_name: (FLOAT, [1, 3, *spec.input_hw])}
    if {name: (kind, list(shape)) for name, (kind, shape) in found.items()} != wanted:
        raise ArtifactError(
            f"{path} takes {_listed(found)}, its spec says {_listed(wanted)}; "
            "export it with static batch 1"
        )


def check_outputs(found: Tensors, spec: ModelSpec, path: Path) -> None:
    """Stop unless the spec's outputs are logits (1, Q, K) and boxes (1, Q, 4), both float32.

    Args:
        found: Name of each output to its type and shape.
        spec: What is wanted.
        path: The artifact, for the message.

    Raises:
        ArtifactError: If an output is missing or is something else.
    """
    check_output_names(found, spec, path)
    logits, boxes = (found[name] for name in (spec.logits_name, spec.boxes_name))
    queries = boxes[1][1] if len(boxes[1]) == 3 else "Q"
    wanted = ((1, queries, len(spec.class_names)), (1, queries, 4))
    if [(k, tuple(s)) for k, s in (logits, boxes)] != [(FLOAT, shape) for shape in wanted]:
        raise ArtifactError(
            f"{path} answers {logits[0]} {tuple(logits[1])} and {boxes[0]} {tuple(boxes[1])}, its "
            f"spec wants float32 logits {wanted[0]} and boxes {wanted[1]}"
        )


def check_output_names(found: Sequence[str] | Tensors, spec: ModelSpec, path: Path) -> None:
    """Stop unless the spec's outputs are among those found.

    Raises:
        ArtifactError: If one is missing.
    """
    if missing := {spec.logits_name, spec.boxes_name} - set(found):
        raise ArtifactError(
            f"{path} answers {', '.join(found)}, its spec wants {' and '.join(sorted(missing))}"
        )


def _listed(tensors: Tensors) -> str:
    return ", ".join(f"{name} {kind} {list(shape)}" for name, (kind, shape) in tensors.items())
