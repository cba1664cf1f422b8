"""The same numbers, written in every convention of exporters, are the same detections everywhere.

The scores of a query add up to less than one, so that a softmax with a column for no object can say
them as well as sigmoids can. The image moves nothing, through a convolution that can be quantized.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.spec_draft import draft_spec
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Placement
from edgedetr.runtime.spec import ExtraInput, ModelSpec, spec_from_json, spec_from_toml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedetr.runtime.types import Detections

    Node = tuple[str, list[str], list[str], dict[str, Any]]

QUERIES, HW = 40, (32, 64)
NAMES = ("Car", "Pedestrian", "Cyclist")
PLAIN = ModelSpec(HW, NAMES)
SCORES = np.full((1, QUERIES, 3), 0.02, np.float32)
SCORES[0, 0], SCORES[0, 3], SCORES[0, 7] = (0.9, 0.05, 0.01), (0.1, 0.6, 0.2), (0.02, 0.03, 0.75)
CENTRES = np.stack(
    np.meshgrid(np.linspace(0.1, 0.8, 8), np.linspace(0.2, 0.8, 5)), axis=-1
).reshape(1, QUERIES, 2)
BOXES = np.concatenate([CENTRES, CENTRES / 4], -1).astype(np.float32)
SIZE = np.array([HW[1], HW[0]] * 2, np.float32)
SIZES = ExtraInput("orig_target_sizes", "width_height")

NONE = 1 - SCORES.sum(-1, keepdims=True)
LOGITS = np.log(SCORES) - np.log1p(-SCORES)
ALL_SHARES = np.concatenate([SCORES, NONE], -1)
CORNERS: list[Node] = [
    ("Split", ["boxes", "halves"], ["centre", "size"], {"axis": 2}),
    ("Mul", ["size", "half"], ["reach"], {}),
    ("Sub", ["centre", "reach"], ["low"], {}),
    ("Add", ["centre", "reach"], ["high"], {}),
    ("Concat", ["low", "high"], ["xyxy"], {"axis": 2}),
]
PIXELS: list[Node] = [
    ("Cast", ["orig_target_sizes"], ["wh"], {"to": TensorProto.FLOAT}),
    ("Concat", ["wh", "wh"], ["whwh"], {"axis": 1}),
    ("Mul", ["xyxy", "whwh"], ["boxes_px"], {}),
]
SIGMOID: Node = ("Sigmoid", ["logits"], ["scores"], {})
BEST: list[Node] = [
    ("Flatten", ["scores"], ["flat"], {}),
    ("TopK", ["flat", "count"], ["best", "at"], {"axis": 1}),
    ("Mod", ["at", "classes"], ["labels"], {}),
    ("Div", ["at", "classes"], ["query"], {}),
    ("Unsqueeze", ["query", "last"], ["rows"], {}),
    ("Tile", ["rows", "fourfold"], ["places"], {}),
    ("GatherElements", ["boxes_px", "places"], ["best_boxes"], {"axis": 1}),
]
CONSTANTS = {
    "halves": np.array([2, 2]),
    "half": np.float32(0.5),
    "count": np.array([QUERIES]),
    "classes": np.array(3),
    "last": np.array([2]),
    "fourfold": np.array([1, 1, 4]),
}
SHARES = np.log(ALL_SHARES) + 3


def convention(
    nodes: list[Node], outputs: str, logits: Any = LOGITS, **keys: Any
) -> tuple[list[Node], str, Any, ModelSpec]:
    return nodes, outputs, logits, replace(PLAIN, **keys)


CONVENTIONS = {
    "plain": convention([], "logits boxes"),
    "scores": convention([SIGMOID], "scores boxes", logits_name="scores", activation="sigmoid"),
    "softmax with no object last": convention(
        [("Softmax", ["logits"], ["p"], {"axis": 2})],
        *("p boxes", SHARES),
        logits_name="p",
        activation="softmax",
        no_object=3,
    ),
    "logits of a softmax with no object first": convention(
        [], "logits boxes", np.roll(SHARES, 1, -1), activation="softmax_logits", no_object=0
    ),
    "corners": convention(CORNERS, "logits xyxy", boxes_name="xyxy", box_format="xyxy"),
    "corners in pixels of a size that is fed": convention(
        [*CORNERS, *PIXELS],
        "logits boxes_px",
        boxes_name="boxes_px",
        box_format="xyxy",
        box_unit="pixels",
        extra_inputs=(SIZES,),
    ),
    "one output of boxes and scores": convention(
        [SIGMOID, ("Concat", ["boxes", "scores"], ["output0"], {"axis": 2})],
        "output0",
        logits_name="output0",
        boxes_name="output0",
        fused=True,
        activation="sigmoid",
    ),
    "the best labels, boxes and scores": convention(
        [*CORNERS, *PIXELS, SIGMOID, *BEST],
        "labels best_boxes best",
        logits_name="best",
        boxes_name="best_boxes",
        labels_name="labels",
        activation="sigmoid",
        box_format="xyxy",
        box_unit="pixels",
        extra_inputs=(SIZES,),
    ),
}


def write(folder: Path, name: str) -> tuple[Path, ModelSpec]:
    """Write the model of a convention; nothing about the convention lies in the file."""
    nodes, outputs, logits, spec = CONVENTIONS[name]
    stem: list[Node] = [
        ("Conv", ["images", "w1"], ["a"], {}),
        ("Relu", ["a"], ["r"], {}),
        ("Conv", ["r", "w2"], ["b"], {}),
        ("ReduceMean", ["b"], ["mean"], {"axes": [1, 2, 3], "keepdims": 0}),
        ("Mul", ["mean", "nothing"], ["still"], {}),
        ("Add", ["still", "fixed_logits"], ["logits"], {}),
        ("Add", ["still", "fixed_boxes"], ["boxes"], {}),
    ]
    w = np.full((4, 3, 1, 1), 0.5, np.float32), np.full((4, 4, 1, 1), 0.25, np.float32)
    constants = CONSTANTS | {"w1": w[0], "w2": w[1], "nothing": np.zeros(1, np.float32)}
    constants |= {"fixed_logits": np.float32(logits), "fixed_boxes": BOXES}
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, *HW))]
    if spec.extra_inputs:
        inputs.append(helper.make_tensor_value_info(SIZES.name, TensorProto.INT64, (1, 2)))
    made = [helper.make_node(op, i, o, o[0], **a) for op, i, o, a in [*stem, *nodes]]
    kinds = {"labels": TensorProto.INT64}
    graph = helper.make_graph(
        made,
        "net",
        inputs,
        [
            helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None)
            for n in outputs.split()
        ],
        [
            numpy_helper.from_array(np.asarray(v), n)
            for n, v in constants.items()
            if any(n in node.input for node in made)
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx", spec


def write_toml(path: Path, spec: ModelSpec) -> Path:
    values = json.loads(spec.to_json())
    extras = values.pop("extra_inputs", [])
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items()]
    for extra in extras:
        lines += ["[[extra_inputs]]", *(f"{k} = {json.dumps(v)}" for k, v in extra.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def found(answer: tuple[np.ndarray, np.ndarray], threshold: float = 0.09) -> Detections:
    logits, boxes = answer
    return postprocess(logits[0], boxes[0], Placement(HW, HW, HW), PLAIN, threshold)


def check_found(detections: Detections) -> None:
    """Five pairs score 0.09 and more."""
    assert detections.labels.tolist() == [0, 2, 1, 2, 0]
    np.testing.assert_allclose(detections.scores, [0.9, 0.75, 0.6, 0.2, 0.1], rtol=1e-4)
    centres = BOXES[0, [0, 7, 3, 3, 3]] * SIZE
    corners = np.concatenate(
        [centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2], 1
    )
    np.testing.assert_allclose(detections.boxes, corners, atol=1e-4)


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_is_the_same_detections(name: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    path, spec = write(tmp_path, name)
    session = backend(library).open_session(path, spec)
    for _ in range(2):
        check_found(found(session.infer()))
    session.close()


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_runner_compares_them_in_one_convention(name: str, tmp_path: Path) -> None:
    path, spec = write(tmp_path, name)
    check_found(found(OnnxRunner(path, spec)(np.zeros((1, 3, *HW), np.float32))))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_draft_is_read_back_and_finds_the_same(name: str, tmp_path: Path) -> None:
    path, spec = write(tmp_path, name)
    draft = draft_spec(path)
    (tmp_path / "s.toml").write_text(draft.toml(), encoding="utf-8")
    drafted = spec_from_toml(tmp_path / "s.toml")
    assert drafted == draft.spec()
    assert len(drafted.class_names) == 3
    assert {"class_names", "mean", "std", "resize"} <= set(draft.unsure)
    same = replace(spec, class_names=drafted.class_names, resize="stretch")
    assert drafted == same
    check_found(found(OnnxRunner(path, drafted)(np.zeros((1, 3, *HW), np.float32))))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_goes_through_every_command(
    name: str, tmp_path: Path, edgedetr: Callable[..., tuple[int, str, str]]
) -> None:
    path, spec = write(tmp_path, name)
    toml, images = write_toml(tmp_path / "spec.toml", spec), tmp_path / "images"
    images.mkdir()
    for i in range(3):
        frame = np.random.default_rng(i).integers(0, 256, (*HW, 3), np.uint8)
        cv2.imwrite(str(images / f"{i}.png"), frame)
    stats, int8, half = (tmp_path / n for n in ("m.json", "m.int8.onnx", "m.fp16.onnx"))
    given = ("--spec", toml)
    for arguments in (
        ("calib", "collect", path, *given, "--images", images, "-o", stats),
        ("export", "qdq", path, stats, *given, "--for", "openvino", "-o", int8),
        ("export", "fp16", path, *given, "-o", half),
        (
            "verify",
            path,
            int8,
            *given,
            "--max-lost",
            0.7,
            "--images",
            images,
            "--json",
            tmp_path / "i.json",
        ),
        (
            "verify",
            path,
            half,
            *given,
            "--max-lost",
            0.7,
            "--images",
            images,
            "--json",
            tmp_path / "h.json",
        ),
        ("detect", path, *given, "--images", images, "--out", tmp_path / "out"),
        ("detect", int8, "--images", images, "--out", tmp_path / "out8"),
    ):
        status, _, err = edgedetr(*arguments)
        assert status == 0, (arguments[:2], err)
    assert (tmp_path / "out" / "0.txt").read_text() == (tmp_path / "out8" / "0.txt").read_text()
    reports = ("--parity", tmp_path / "i.json", "--parity", tmp_path / "h.json")
    models = (int8, half, "--reference", path, "--calibration", stats)
    status, _, err = edgedetr("package", *models, *given, *reports, "-o", tmp_path / "x.tar")
    assert status == 0, err
    text = next(p.value for p in onnx.load(int8).metadata_props if p.key == "edgedetr.spec")
    assert spec_from_json(text, "") == spec


def test_only_the_label_of_a_query_is_a_detection(tmp_path: Path) -> None:
    """At any threshold there are as many detections as queries, each of its own class."""
    path, spec = write(tmp_path, "the best labels, boxes and scores")
    logits, boxes = OnnxRunner(path, spec)(np.zeros((1, 3, *HW), np.float32))
    every = postprocess(logits[0], boxes[0], Placement(HW, HW, HW), spec, 0.0)
    assert len(every) == QUERIES
    assert (every.scores >= 0.02 - 1e-6).all()


def test_json_of_a_plain_spec_names_no_convention() -> None:
    assert "activation" not in PLAIN.to_json()
    for _, _, _, spec in CONVENTIONS.values():
        assert spec_from_json(spec.to_json(), "") == spec


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("scores", {"activation": "sigmoid_logits"}, 'set activation = "sigmoid"'),
        ("plain", {"activation": "sigmoid"}, 'set activation = "sigmoid_logits"'),
        (
            "softmax with no object last",
            {"activation": "sigmoid", "no_object": None, "class_names": (*NAMES, "none")},
            'set activation = "softmax"',
        ),
        (
            "softmax with no object last",
            {"activation": "softmax", "no_object": None, "class_names": (*NAMES, "none")},
            "column 3 of p wins nearly every query .*set no_object = 3 and take 'none' out",
        ),
        ("softmax with no object last", {"no_object": 1}, "set no_object = 3"),
        ("scores", {"activation": "softmax"}, 'set activation = "sigmoid"'),
        ("corners", {"box_format": "cxcywh"}, 'set box_format = "xyxy"'),
        ("plain", {"box_format": "xyxy"}, 'set box_format = "cxcywh"'),
        (
            "corners in pixels of a size that is fed",
            {"box_unit": "fraction"},
            r"boxes_px reach 57\.6, wanted fractions .*set box_unit = \"pixels\"",
        ),
        ("corners", {"box_unit": "pixels"}, 'set box_unit = "fraction"'),
        (
            "corners in pixels of a size that is fed",
            {"extra_inputs": ()},
            "set in the spec what to feed orig_target_sizes",
        ),
        ("one output of boxes and scores", {"fused": False}, "fused = true"),
        (
            "the best labels, boxes and scores",
            {"class_names": ("Car", "Pedestrian")},
            "labels lie between 0 and 2, and its spec has 2 class_names",
        ),
        ("plain", {"class_names": ("Car", "Pedestrian")}, "no_object = -1"),
        ("plain", {"logits_name": "boxes", "boxes_name": "logits"}, "its spec wants"),
    ],
)
def test_what_contradicts_the_numbers_is_refused_with_the_key(
    name: str, wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path, spec = write(tmp_path, name)
    spec = replace(spec, **wrong)
    for library in ("onnxruntime", "openvino"):
        pytest.importorskip(library)
        with pytest.raises(ArtifactError, match=message):
            backend(library).open_session(path, spec)
    with pytest.raises(ArtifactError, match=message):
        OnnxRunner(path, spec)
