"""Draft the spec of a model that others made: from its graph, its metadata and one run of it.

What none of them holds is guessed and listed, for somebody who knows the model to check.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper

from edgedetr.graph.contract import (
    ACTIVATIONS,
    activation_before,
    check_contract,
    described,
    outputs_of,
)
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.settings import settings_from_dict
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec
from edgedetr.runtime.spec_checks.tensors import FLOAT, refuse_dense
from edgedetr.runtime.spec_checks.values import (
    MOST_OUTSIDE,
    column_of_no_object,
    looks_like_corners,
    ordered_share,
    rows_sum_to_one,
    within_unit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    Outputs = Mapping[str, NDArray[Any]]

NAMES_KEY = "names"
"""Under which Ultralytics stores the class names, as a Python dictionary."""

_MOST_LABELS = 1 << 16


@dataclass
class Draft:
    """A spec, key by key, and what about it is a guess.

    Attributes:
        keys: The keys of a `ModelSpec` that are not the default.
        unsure: Key to what to look at.
    """

    keys: dict[str, Any]
    unsure: dict[str, str] = field(default_factory=dict)

    def spec(self) -> ModelSpec:
        """Return the spec."""
        return settings_from_dict(ModelSpec, self.keys, "the draft")

    def toml(self) -> str:
        """Write it, each guess under a comment."""
        lines = []
        for key, value in self.keys.items():
            if key in self.unsure:
                lines.append(f"# unsure: {self.unsure[key]}")
            if key == "extra_inputs":
                for extra in value:
                    lines += ["", "[[extra_inputs]]"]
                    lines += [f"{k} = {json.dumps(v)}" for k, v in extra.items()]
            else:
                lines.append(f"{key} = {json.dumps(value)}")
        return "\n".join(lines) + "\n"


def draft_spec(path: Path) -> Draft:
    """Draft the spec of an ONNX file.

    Raises:
        ArtifactError: If the file is damaged, takes no image of known size, or lacks the outputs
            of a detection transformer.
    """
    model = load_onnx(path)
    if any(p.key == METADATA_KEY for p in model.metadata_props):
        embedded_spec(model, path)
        raise ArtifactError(f"{path} carries its own spec; it needs none")
    draft = _inputs(model, path)
    outputs = outputs_of(model, draft.spec(), path)
    for name in _candidates(outputs):
        refuse_dense(name, outputs[name].shape, draft.spec(), path)
    _outputs(draft, outputs, path)
    scores, boxes = _parts(draft, outputs)
    if not draft.keys.get("labels_name"):
        _activation(draft, model, scores)
    _boxes(draft, boxes)
    _class_names(draft, model, scores.shape, outputs)
    for key, value in (("resize", "stretch"), ("mean", [0.0] * 3), ("std", [1.0] * 3)):
        draft.keys[key] = value
        draft.unsure[key] = _PREPROCESSING[key]
    draft.keys["extra_inputs"] = draft.keys.pop("extra_inputs")  # tables come last in TOML
    if not draft.keys["extra_inputs"]:
        del draft.keys["extra_inputs"]
    check_contract(model, draft.spec(), path)
    return draft


def _inputs(model: onnx.ModelProto, path: Path) -> Draft:
    """Tell the image from other inputs."""
    constants = {t.name for t in model.graph.initializer}
    inputs = described(i for i in model.graph.input if i.name not in constants)
    images = [n for n, (kind, shape) in inputs.items() if kind == FLOAT and len(shape) == 4]
    if not images:
        listed = ", ".join(f"{n} {kind} {list(shape)}" for n, (kind, shape) in inputs.items())
        raise ArtifactError(f"{path} takes {listed}; wanted an image, float32 [1, 3, H, W]")
    name = images[0]
    _, channels, *sizes = inputs[name][1]
    if channels != 3 or not all(isinstance(s, int) for s in sizes):
        raise ArtifactError(
            f"{path} takes {name} {list(inputs[name][1])}; export it with the channels first and a "
            "static shape, [1, 3, H, W]"
        )
    draft = Draft({"input_hw": sizes, "class_names": ["object"], "input_name": name})
    draft.keys["extra_inputs"] = [_extra(draft, n, inputs[n][1]) for n in inputs if n != name]
    return draft


def _extra(draft: Draft, name: str, shape: Sequence[int | str]) -> dict[str, str]:
    """Guess what to feed an input beside the image."""
    value = "ones"
    if list(shape[-1:]) == [2] and "scale" not in name:
        value = "height_width" if "shape" in name else "width_height"
    draft.unsure["extra_inputs"] = (
        f"{name} is fed {value}; the choices are width_height, height_width and ones"
    )
    return {"name": name, "value": value}


def _candidates(outputs: Outputs) -> list[str]:
    """Name the outputs that can hold boxes or classes: all of one row a query, float."""
    return [n for n, a in outputs.items() if a.ndim >= 3 and a.size and a.dtype == np.float32]


def _outputs(draft: Draft, outputs: Outputs, path: Path) -> None:
    """Find out which output is what."""
    rows = [n for n in _candidates(outputs) if outputs[n].ndim == 3]
    boxes = sorted((n for n in rows if outputs[n].shape[2] == 4), key=lambda n: _order(n, outputs))
    for box in boxes:
        queries = outputs[box].shape[:2]
        others = [n for n in rows if n != box and outputs[n].shape[:2] == queries]
        labels = [n for n, a in outputs.items() if a.shape == queries and a.dtype.kind == "i"]
        scores = [n for n, a in outputs.items() if a.shape == queries and a.dtype == np.float32]
        if labels and scores:
            passed = "sigmoid" if within_unit(outputs[scores[0]]) else _LOGITS
            draft.keys |= {"logits_name": scores[0], "boxes_name": box, "labels_name": labels[0]}
            draft.keys["activation"] = passed
            return
        others = [n for n in others if outputs[n].shape[2] != 4 or len(boxes) == 2] or others
        if others:
            draft.keys |= {"logits_name": others[0], "boxes_name": box}
            if len(boxes) > 1:
                draft.unsure["boxes_name"] = f"the choices are {', '.join(boxes)}"
            return
    if len(rows) == 1 and outputs[rows[0]].shape[2] > 4:
        draft.keys |= {"logits_name": rows[0], "boxes_name": rows[0], "fused": True}
        return
    listed = ", ".join(f"{n} {a.dtype} {a.shape}" for n, a in outputs.items())
    raise ArtifactError(
        f"{path} outputs {listed}; wanted float32 logits (1, Q, K) and boxes (1, Q, 4), both in "
        "one output (1, Q, 4 + K), or labels (1, Q), boxes (1, Q, 4) and scores (1, Q)"
    )


def _order(name: str, outputs: Outputs) -> tuple[bool, bool, str]:
    """Put first what looks most like boxes: fractions, and a name that says so."""
    named = any(word in name.lower() for word in ("box", "det", "coord"))
    return (not within_unit(outputs[name]), not named, name)


def _parts(draft: Draft, outputs: Outputs) -> tuple[NDArray[Any], NDArray[Any]]:
    scores, boxes = outputs[draft.keys["logits_name"]], outputs[draft.keys["boxes_name"]]
    return (scores[..., 4:], boxes[..., :4]) if draft.keys.get("fused") else (scores, boxes)


def _activation(draft: Draft, model: onnx.ModelProto, scores: NDArray[Any]) -> None:
    """Tell logits from scores, and the column of no object."""
    found = ACTIVATIONS.get(activation_before(model, draft.keys["logits_name"]), "")
    if not found and within_unit(scores):
        found = "softmax" if rows_sum_to_one(scores) else "sigmoid"
    column = column_of_no_object(scores, found or _LOGITS)
    if not found:
        found = _LOGITS if column is None else "softmax_logits"
        draft.unsure["activation"] = "logits of a sigmoid or of a softmax (softmax_logits)"
    draft.keys["activation"] = found
    if column is None and found == "softmax":
        column = scores.shape[-1] - 1
    if column is not None:
        draft.keys["no_object"] = column
        draft.unsure["no_object"] = "the column that wins where there is nothing"


def _boxes(draft: Draft, boxes: NDArray[Any]) -> None:
    """Tell corners from centres and pixels from fractions."""
    in_pixels = float(boxes.max()) > 1 + MOST_OUTSIDE
    draft.keys["box_format"] = "xyxy" if ordered_share(boxes) == 1 else "cxcywh"
    draft.keys["box_unit"] = "pixels" if in_pixels else "fraction"
    sure = looks_like_corners(boxes) is not None
    draft.unsure["box_format"] = _ORDER if sure else f"cxcywh or xyxy, {_ORDER}"


def _class_names(
    draft: Draft, model: onnx.ModelProto, shape: tuple[int, ...], outputs: Outputs
) -> None:
    """Read class names from the metadata, or count the classes."""
    named = _stored_names(model)
    if draft.keys.get("labels_name"):
        count = len(named) or _label_count(model, outputs[draft.keys["labels_name"]])
        draft.unsure["class_names"] = "how many there are, and their names"
    else:
        count = shape[-1] - ("no_object" in draft.keys)
        draft.unsure["class_names"] = "their names, in the order of the columns"
    if len(named) == count:
        del draft.unsure["class_names"]
    else:
        named = [f"class_{i}" for i in range(count)]
    draft.keys["class_names"] = named


def _stored_names(model: onnx.ModelProto) -> list[str]:
    """Return the class names in a model's metadata; none where they are missing or unreadable."""
    texts = [p.value for p in model.metadata_props if p.key == NAMES_KEY]
    try:
        names = ast.literal_eval(texts[0]) if texts else {}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    found = list(names.values()) if isinstance(names, dict) else names
    is_list = isinstance(found, list) and all(isinstance(n, str) and n for n in found)
    return found if is_list and len(set(found)) == len(found) else []


def _label_count(model: onnx.ModelProto, labels: NDArray[Any]) -> int:
    """Count the classes of labels that were divided out of an index, or of those that were seen."""
    constants = {t.name: t for t in model.graph.initializer}
    constants |= {
        n.output[0]: n.attribute[0].t
        for n in model.graph.node
        if n.op_type == "Constant" and n.attribute and n.attribute[0].name == "value"
    }
    divisors = [
        numpy_helper.to_array(constants[n.input[1]])
        for n in model.graph.node
        if n.op_type in ("Mod", "Div") and n.input[1] in constants
    ]
    counts = [int(d) for d in divisors if d.dtype.kind == "i" and d.size == 1]
    seen = int(labels.max()) + 1
    return next((c for c in counts if seen <= c <= _MOST_LABELS), seen)


_LOGITS = "sigmoid_logits"
_ORDER = (
    "numbers do not tell a first corner from a centre, nor y before x: look at the pictures that "
    "edgedetr detect draws"
)
_PREPROCESSING = {
    "resize": "stretch or letterbox, as it was trained",
    "mean": "of each channel (R, G, B), after division by 255",
    "std": "of each channel (R, G, B), after division by 255",
}
