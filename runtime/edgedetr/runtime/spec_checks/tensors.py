"""Check inputs and outputs of an artifact against its spec, the same for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.runtime.spec import ModelSpec

    Shape = Sequence[int | str]
    Tensors = Mapping[str, tuple[str, Shape]]

FLOAT = "float32"

MOST_QUERIES = 3000
"""More queries than any detection transformer has."""

_INTEGERS = ("int64", "int32")
_GRIDS = ((8, 32), (8, 64), (8, 128), (4, 32))  # finest and coarsest stride of a dense head
_ANCHORS = (1, 3, 9)  # for each cell
_LEAST_DENSE = 80  # boxes; an input of a few cells has as many as some models have queries


def check_inputs(found: Tensors, spec: ModelSpec, path: Path, *, may_be_open: bool = False) -> int:
    """Stop unless the inputs are images, float32 (B, 3, H, W), and what the spec names beside.

    Args:
        found: Name of each input to its type and shape; an open size is a word.
        spec: What is wanted.
        path: The artifact, for the message.
        may_be_open: Whether sizes may be left open.

    Returns:
        B, how many images are taken at once; 1 where that is open.

    Raises:
        ArtifactError: If the model takes something else.
    """
    extra = {e.name for e in spec.extra_inputs}
    wanted: Tensors = {spec.input_name: (FLOAT, [1, 3, *spec.input_hw])}
    images = {name: tensor for name, tensor in found.items() if name not in extra}
    fits = set(images) == set(wanted) and _is_image(images[spec.input_name], spec, may_be_open)
    if not fits:
        raise ArtifactError(
            f"{path} takes {_listed(found)}, its spec says {_listed(wanted)}; "
            f"{_input_advice(images, spec)}"
        )
    extra_feeds(found, spec, path)
    batch = images[spec.input_name][1][0]
    return batch if isinstance(batch, int) else 1


def extra_feeds(
    found: Tensors, spec: ModelSpec, path: Path, batch: int = 1
) -> dict[str, NDArray[Any]]:
    """Return what to feed the inputs beside the image, those of the spec that the model has.

    Args:
        found: Name of each input to its type and shape.
        spec: Names them.
        path: The artifact, for the message.
        batch: How many images are fed, where the model leaves that open.

    Raises:
        ArtifactError: If the type or the shape of one does not hold what the spec says.
    """
    feeds = {}
    height, width = spec.input_hw
    for extra in (e for e in spec.extra_inputs if e.name in found):
        kind, shape = found[extra.name]
        free = [batch, *[0] * (len(shape) - 1)]  # only the number of images may be open
        sizes = [s if isinstance(s, int) else f for s, f in zip(shape, free, strict=False)]
        is_size = extra.value != "ones"
        known = kind in (*_INTEGERS, FLOAT) and sizes and min(sizes) > 0
        if not known or (is_size and sizes[-1] != 2):
            raise ArtifactError(
                f"{path}: the input {extra.name} is {kind} {list(shape)}, and its spec feeds it "
                f"{extra.value}: wanted integers or float32 of known sizes"
                + (", such as int64 [1, 2]" if is_size else "")
            )
        pair = {"width_height": (width, height), "height_width": (height, width), "ones": 1}
        feeds[extra.name] = np.full(sizes, pair[extra.value], np.dtype(kind))
    return feeds


def check_outputs(found: Tensors, spec: ModelSpec, path: Path, batch: int | str = 1) -> None:
    """Stop unless the spec's outputs are there and have the types and shapes that it says.

    These are logits (B, Q, K) and boxes (B, Q, 4), both float32, unless the spec says otherwise;
    see `output_shapes`.

    Args:
        found: Name of each output to its type and shape; an open size is a word and fits any.
        spec: What is wanted.
        path: The artifact, for the message.
        batch: How many images are taken at once; a word where that is open.

    Raises:
        ArtifactError: If an output is missing or is something else, or the model is no detection
            transformer.
    """
    check_output_names(found, spec, path)
    outputs = [found[name] for name in spec.output_names]
    shape = outputs[min(1, len(outputs) - 1)][1]
    if any(0 in sizes for _, sizes in outputs):
        listed = _listed(dict(zip(spec.output_names, outputs, strict=True)))
        raise ArtifactError(f"{path} outputs {listed}, without a single query; export it again")
    wanted = output_shapes(spec, shape[1] if len(shape) == 3 else "Q", batch)
    if any(not _fits(f, w) for f, w in zip(outputs, wanted, strict=True)):
        names = _roles(spec)
        given = " and ".join(f"{kind} {tuple(shape)}" for kind, shape in outputs)
        needed = " and ".join(
            f"{kind if i == 0 or kind != FLOAT else ''} {name} {tuple(shape)}".strip()
            for i, (name, (kind, shape)) in enumerate(zip(names, wanted, strict=True))
        )
        raise ArtifactError(
            f"{path} outputs {given}, its spec wants {needed}{_output_advice(outputs, spec)}"
        )


def check_output_names(found: Tensors, spec: ModelSpec, path: Path) -> None:
    """Stop unless the spec's outputs are among those found and are no dense anchors.

    Raises:
        ArtifactError: If one is missing or the model is no detection transformer.
    """
    missing = set(spec.output_names) - set(found)
    for name in found if missing else spec.output_names:
        refuse_dense(name, found[name][1], spec, path)
    if missing:
        raise ArtifactError(
            f"{path} outputs {', '.join(found)}, its spec wants {' and '.join(sorted(missing))}"
        )
    if len(set(spec.output_names)) < len(spec.output_names):
        raise ArtifactError(
            f"{path}: the spec names {spec.logits_name} twice, as logits and as boxes; where one "
            "output holds both, four columns of boxes and then the classes, set fused = true"
        )


def refuse_dense(name: str, shape: Shape, spec: ModelSpec, path: Path) -> None:
    """Stop at an output with a row for each cell of a grid.

    Raises:
        ArtifactError: If it does.
    """
    counts = [size for size in shape[1:] if isinstance(size, int)]
    dense = [c for c in counts if c > MOST_QUERIES or c in _dense_counts(spec.input_hw)]
    if (len(shape) == 3 and dense) or len(shape) > 4:
        raise ArtifactError(
            f"{path} outputs {name} {tuple(shape)}, so one row for each cell of a grid: dense "
            "anchors, which need non-maximum suppression. This is no DETR; EdgeDETR takes models "
            "with some hundred queries"
        )


def output_shapes(
    spec: ModelSpec, queries: int | str, batch: int | str = 1
) -> list[tuple[str, tuple[int | str, ...]]]:
    """Return type and shape of each of ``spec.output_names``."""
    if spec.fused:
        return [(FLOAT, (batch, queries, 4 + spec.columns))]
    boxes = (FLOAT, (batch, queries, 4))
    if spec.labels_name:
        return [(FLOAT, (batch, queries)), boxes, (_INTEGERS[0], (batch, queries))]
    return [(FLOAT, (batch, queries, spec.columns)), boxes]


def _is_image(tensor: tuple[str, Shape], spec: ModelSpec, may_be_open: bool) -> bool:
    kind, shape = tensor
    if kind != FLOAT or len(shape) != 4 or shape[0] == 0:
        return False
    if not may_be_open and any(isinstance(size, str) for size in shape):
        return False
    wanted = (3, *spec.input_hw)
    return all(isinstance(f, str) or f == w for f, w in zip(shape[1:], wanted, strict=True))


def _fits(found: tuple[str, Shape], wanted: tuple[str, Shape]) -> bool:
    (kind, shape), (wanted_kind, sizes) = found, wanted
    same_kind = kind == wanted_kind or {kind, wanted_kind} <= set(_INTEGERS)
    return (
        same_kind
        and len(shape) == len(sizes)
        and all(f == w or str in (type(f), type(w)) for f, w in zip(shape, sizes, strict=True))
    )


def _roles(spec: ModelSpec) -> tuple[str, ...]:
    if spec.fused:
        return ("boxes and classes",)
    return ("scores", "boxes", "labels") if spec.labels_name else ("logits", "boxes")


def _input_advice(images: Tensors, spec: ModelSpec) -> str:
    """Return what to do about inputs that do not fit."""
    others = [name for name in images if name != spec.input_name]
    if spec.input_name not in images:
        return f"set input_name to the image's name ({', '.join(others) or 'it has none'})"
    if others:
        return (
            f"set in the spec what to feed {' and '.join(others)}: [[extra_inputs]] name = "
            f'"{others[0]}", value = "width_height", "height_width" or "ones"'
        )
    kind, shape = images[spec.input_name]
    if kind != FLOAT:
        return f"export it with an image of float32, not {kind}"
    if len(shape) == 4 and shape[-1] == 3:
        return "export it with the channels first"
    sizes = shape[2:]
    if len(sizes) == 2 and all(isinstance(s, int) for s in sizes) and (*sizes,) != spec.input_hw:
        return f"set input_hw to {list(sizes)}"
    return "export it with a static batch, such as 1"


def _output_advice(outputs: Sequence[tuple[str, Shape]], spec: ModelSpec) -> str:
    """Return what to do about outputs that do not fit, where that is known; else empty."""
    kinds = {kind for kind, _ in outputs[:2]}
    if kinds != {FLOAT}:
        return f"; cast {' and '.join(sorted(kinds - {FLOAT}))} to float32 inside the graph"
    shape = outputs[0][1]
    if not spec.labels_name and len(shape) == 2:
        return "; export it with a batch in front"
    columns = shape[-1] if len(shape) == 3 else 0
    extra = columns - 4 * spec.fused - len(spec.class_names) if isinstance(columns, int) else 0
    if extra == 1 and spec.no_object is None:
        return (
            "; if one column stands for no object, set its index (no_object = -1 is the last); or "
            "name every class"
        )
    return "; name every class that it was trained on, in class_names" if columns else ""


def _dense_counts(hw: tuple[int, int]) -> set[int]:
    """Return how many boxes dense heads of usual strides give for an input."""
    counts = set()
    for finest, coarsest in _GRIDS:
        strides = [finest << i for i in range((coarsest // finest).bit_length())]
        cells = sum(-(-hw[0] // s) * -(-hw[1] // s) for s in strides)
        counts |= {cells * anchors for anchors in _ANCHORS}
    return {count for count in counts if count >= _LEAST_DENSE}


def _listed(tensors: Tensors) -> str:
    return ", ".join(f"{name} {kind} {list(shape)}" for name, (kind, shape) in tensors.items())
