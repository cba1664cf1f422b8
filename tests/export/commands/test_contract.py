"""What `detect` refuses, every other command refuses too, with the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.export.spec_draft import draft_spec
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import spec_from_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Command = Callable[..., tuple[int, str, str]]

HW = (64, 64)
TOML = 'input_hw = [64, 64]\nclass_names = ["Car", "Pedestrian"]\nresize = "stretch"\n'
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def write(
    folder: Path,
    answers: dict[str, np.ndarray],
    extra: Sequence[onnx.ValueInfoProto] = (),
    kind: int = FLOAT,
) -> Path:
    """Write a convolution, and beside it outputs that never change."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Conv", ["images", "w"], ["x"], "conv")]
    constants = {"w": np.ones((2, 3, 1, 1), np.float32)} | {f"{n}_": v for n, v in answers.items()}
    nodes += [helper.make_node("Cast", [f"{n}_"], [n], f"to_{n}", to=kind) for n in answers]
    inputs = [value("images", FLOAT, (1, 3, *HW)), *extra]
    outputs = [value("x", FLOAT, (1, 2, *HW))]
    outputs += [value(n, kind, a.shape) for n, a in answers.items()]
    weights = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-4, 2, shape).astype(np.float32)


def boxes(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 0.9, shape).astype(np.float32)


LABELS = np.array([0, 3, 1, 0, 2, 0, 1, 3], np.float32).reshape(1, 8, 1)
SIZES = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, (1, 2))
BROKEN: dict[str, tuple[tuple[Any, ...], str, str]] = {
    "a column too many": (
        ({"logits": logits(1, 8, 3), "boxes": boxes(1, 8, 4)},),
        "",
        "its spec wants float32 logits (1, 8, 2) and boxes (1, 8, 4); if one column stands for no",
    ),
    "no batch": (
        ({"logits": logits(8, 2), "boxes": boxes(8, 4)},),
        "",
        "export it with a batch in front",
    ),
    "float16": (
        ({"logits": logits(1, 8, 2), "boxes": boxes(1, 8, 4)}, (), HALF),
        "",
        "outputs float16 (1, 8, 2) and float16 (1, 8, 4)",
    ),
    "a second input": (
        ({"logits": logits(1, 8, 2), "boxes": boxes(1, 8, 4)}, (SIZES,)),
        "",
        "set in the spec what to feed orig_target_sizes: [[extra_inputs]]",
    ),
    "one output named twice": (
        ({"output0": boxes(1, 8, 6)},),
        'logits_name = "output0"\nboxes_name = "output0"\n',
        "the spec names output0 twice",
    ),
    "an output missing": (
        ({"logits": logits(1, 8, 2), "dets": boxes(1, 8, 4)},),
        "",
        "m.onnx outputs x, logits, dets, its spec wants boxes",
    ),
    "dense anchors": (
        ({"output0": boxes(1, 84, 7)},),
        'logits_name = "output0"\nboxes_name = "output0"\nfused = true\n',
        "dense anchors, which need non-maximum suppression. This is no DETR",
    ),
    "dense anchors, transposed": (
        ({"output0": boxes(1, 6, 84)},),
        "",
        "dense anchors, which need non-maximum suppression. This is no DETR",
    ),
    "no query": (
        ({"logits": logits(1, 0, 2), "boxes": boxes(1, 0, 4)},),
        "",
        "without a single query",
    ),
    "a score and a label": (
        ({"output0": np.concatenate([boxes(1, 8, 5), LABELS], axis=-1)},),
        'logits_name = "output0"\nboxes_name = "output0"\nfused = true\n',
        "the columns of output0 are a box, a score and a label",
    ),
    "scores": (
        ({"logits": boxes(1, 8, 2), "boxes": boxes(1, 8, 4)},),
        "",
        'as scores that have passed a sigmoid, wanted logits; set activation = "sigmoid"',
    ),
    "pixels": (
        ({"logits": logits(1, 8, 2), "boxes": 64 * boxes(1, 8, 4)},),
        "",
        'wanted fractions of the input; set box_unit = "pixels"',
    ),
    "another size": (
        ({"logits": logits(1, 8, 2), "boxes": boxes(1, 8, 4)},),
        "input_hw = [32, 64]\n",
        "set input_hw to [64, 64]",
    ),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_every_command_refuses_it_in_the_same_words(
    problem: str, tmp_path: Path, edgedetr: Command
) -> None:
    arguments, more, message = BROKEN[problem]
    path, toml, images = write(tmp_path, *arguments), tmp_path / "s.toml", tmp_path / "images"
    base = TOML if "input_hw" not in more else TOML.partition("\n")[2]
    toml.write_text(more + base, encoding="utf-8")
    images.mkdir()
    cv2.imwrite(str(images / "0.png"), np.zeros((*HW, 3), np.uint8))
    stats = tmp_path / "c.json"
    ranges = (TensorRange("images", 1.0, 1.0),)
    spec = spec_from_toml(toml)
    CalibrationStats("m.onnx", model_sha256(path), spec, "max", 100.0, 1, "", ranges).write(stats)
    before = sorted(tmp_path.iterdir())
    given, frames = ("--spec", toml), ("--images", images)
    for command in (
        ("detect", path, *given, *frames, "--out", tmp_path / "out"),
        ("calib", "collect", path, *given, *frames),
        ("export", "fp16", path, *given),
        ("export", "qdq", path, stats, *given),
        ("verify", path, path, *given, *frames),
        ("package", path, *given),
    ):
        status, out, err = edgedetr(*command)
        assert (status, err.count("\n")) == (1, 1), (command[:2], out, err)
        assert message in err, command[:2]
    pytest.importorskip("tensorrt_rtx")
    status, _, err = edgedetr("export", "engine", path, *given, "--backend", "tensorrt_rtx")
    assert (status, message in err) == (1, True), err
    assert sorted(tmp_path.iterdir()) == [*before, *sorted(tmp_path.glob("out"))]


def test_operators_tell_what_the_numbers_do_not(
    tmp_path: Path, onnx_model: Callable[..., onnx.ModelProto], edgedetr: Command
) -> None:
    """All scores are the same, as those of a model that sees nothing may be."""
    model = onnx_model(
        [("Conv", "c", ["images", "w"], "x", {}), ("Sigmoid", "s", ["fixed"], "logits", {})],
        {"w": np.ones((2, 3, 1, 1)), "fixed": np.full((1, 8, 2), -3.0), "boxes": boxes(1, 8, 4)},
        inputs={"images": (1, 3, *HW)},
        outputs=["x", "logits", "boxes"],
    )
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "s.toml").write_text(TOML, encoding="utf-8")
    status, _, err = edgedetr("export", "fp16", tmp_path / "m.onnx", "--spec", tmp_path / "s.toml")
    assert (status, "logits is the output of a Sigmoid, but the spec has" in err) == (1, True), err


def test_an_engine_is_built_without_other_inputs(tmp_path: Path, edgedetr: Command) -> None:
    pytest.importorskip("tensorrt_rtx")
    path = write(tmp_path, {"logits": logits(1, 8, 2), "boxes": boxes(1, 8, 4)}, (SIZES,))
    extra = '[[extra_inputs]]\nname = "orig_target_sizes"\nvalue = "width_height"\n'
    (tmp_path / "s.toml").write_text(TOML + extra, encoding="utf-8")
    arguments = ("export", "engine", path, "--spec", tmp_path / "s.toml")
    status, _, err = edgedetr(*arguments, "--backend", "tensorrt_rtx")
    assert (status, "orig_target_sizes beside the image, which engines do not get" in err) == (
        1,
        True,
    )


def test_fp16_of_a_typed_file_says_so(tmp_path: Path, edgedetr: Command) -> None:
    path = write(tmp_path, {"logits": logits(1, 8, 2), "boxes": boxes(1, 8, 4)})
    (tmp_path / "s.toml").write_text(TOML, encoding="utf-8")
    assert edgedetr("export", "fp16", path, "--spec", tmp_path / "s.toml")[0] == 0
    status, _, err = edgedetr("export", "fp16", tmp_path / "m.fp16.onnx")
    assert status == 1
    assert "m.fp16.onnx is in FP16 already; start from the FP32 model" in err


@pytest.mark.parametrize(
    ("problem", "wanted"),
    [
        ("dense anchors", "no DETR"),
        ("no batch", "wanted float32 logits"),
        ("float16", "wanted float32 logits"),
        ("no query", "wanted float32 logits"),
        ("a score and a label", "are a box, a score and a label"),
    ],
)
def test_no_spec_is_drafted_of_what_is_no_detector(
    problem: str, wanted: str, tmp_path: Path
) -> None:
    path = write(tmp_path, *BROKEN[problem][0])
    with pytest.raises(ArtifactError, match=wanted):
        draft_spec(path)
