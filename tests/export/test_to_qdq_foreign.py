"""Calibration, INT8 and FP16 of an ONNX file that others made, with a spec beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from edgedetr.export.to_fp16 import export_fp16
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.boxes import iou
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, spec_from_json, spec_from_toml

if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., onnx.ModelProto]

pytestmark = pytest.mark.usefixtures("few_channels")

SPEC = ModelSpec((4, 8), ("Car",))
TOML = 'input_hw = [4, 8]\nclass_names = ["Car"]\n'


@pytest.fixture
def files(tmp_path: Path, onnx_model: Build) -> tuple[Path, Path, Path]:
    """A model without a spec, its spec and a folder of images."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w1"], "a", {}),
            ("Relu", "", ["a"], "r", {}),
            ("Conv", "head", ["r", "w2"], "h", {}),
            ("Reshape", "rows", ["h", "of_boxes"], "b", {}),
            ("ReduceMean", "logits", ["b"], "logits", {"axes": [2]}),
            ("Sigmoid", "boxes", ["b"], "boxes", {}),
        ],
        {
            "w1": rng.normal(size=(4, 3, 1, 1)),
            "w2": rng.normal(size=(1, 4, 1, 1)),
            "of_boxes": [1, 8, 4],
        },
        inputs={"images": (1, 3, 4, 8)},
        outputs=["logits", "boxes"],
    )
    onnx.save(model, tmp_path / "m.onnx")
    (tmp_path / "spec.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "images").mkdir()
    for i in range(3):
        cv2.imwrite(
            str(tmp_path / "images" / f"{i}.png"), rng.integers(0, 256, (4, 8, 3), np.uint8)
        )
    return tmp_path / "m.onnx", tmp_path / "spec.toml", tmp_path / "images"


def test_a_model_and_its_spec_go_through_every_command(
    files: tuple[Path, Path, Path], edgedetr: Any
) -> None:
    model, spec, images = files
    stats = model.with_suffix(".calib.json")
    code, _, err = edgedetr("calib", "collect", model, "--spec", spec, "--images", images)
    assert (code, "only 3 frames; " in err) == (0, True)
    code, out, _ = edgedetr("export", "qdq", model, stats, "--spec", spec)
    assert (code, "1 node in INT8 of 2 convolutions" in out) == (0, True)
    code, out, _ = edgedetr("export", "fp16", model, "--spec", spec, "--images", images)
    assert (code, "100.0%" in out) == (0, True)
    for suffix, kind in ((".int8.onnx", "qdq"), (".fp16.onnx", "fp16")):
        made = model.with_suffix(suffix)
        props = {p.key: p.value for p in onnx.load(made).metadata_props}
        assert spec_from_json(props[METADATA_KEY], "") == SPEC
        assert (read_manifest(made).kind, read_manifest(made).spec) == (kind, SPEC)


def unknown(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node[1].op_type, model.graph.node[1].domain = "FastRelu", "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, path)


def free(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    onnx.save(model, path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def without_weights(path: Path) -> None:
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (path.parent / "w.bin").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unknown, "has operators that ONNX does not define: com.example.FastRelu (at r)"),
        (free, "the input images has free sizes (1, 3, 4, width); export it with the static shape"),
        (truncated, "not a whole ONNX model"),
        (without_weights, "w.bin"),
    ],
)
@pytest.mark.parametrize("kind", ["fp16", "qdq"])
def test_what_cannot_be_typed_is_refused_in_a_line(
    files: tuple[Path, Path, Path],
    edgedetr: Any,
    kind: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    model, spec, images = files
    stats = model.with_suffix(".calib.json")
    assert edgedetr("calib", "collect", model, "--spec", spec, "--images", images)[0] == 0
    damage(model)
    if damage in {unknown, free}:  # stats of the damaged model, so that it is looked at
        values = json.loads(stats.read_text(encoding="utf-8"))
        values["model_sha256"] = model_sha256(model)
        stats.write_text(json.dumps(values), encoding="utf-8")
    before = sorted(model.parent.iterdir())
    extra = [stats] if kind == "qdq" else []
    code, _, err = edgedetr("export", kind, model, *extra, "--spec", spec)
    assert (code, err.count("\n")) == (1, 1), err
    assert message in err
    assert sorted(model.parent.iterdir()) == before


def test_stats_of_another_model_and_a_missing_spec(
    files: tuple[Path, Path, Path], edgedetr: Any
) -> None:
    model, spec, images = files
    stats = model.with_suffix(".calib.json")
    assert edgedetr("calib", "collect", model, "--spec", spec, "--images", images)[0] == 0
    with pytest.raises(ArtifactError, match=r"m.onnx holds no model spec .*; give --spec"):
        export_fp16(model, model.with_name("out.onnx"))
    changed = onnx.load(model)
    changed.doc_string = "another"
    onnx.save(changed, model)
    with pytest.raises(ArtifactError, match=r"the calibration was made with m.onnx \(.*but"):
        export_qdq(model, stats, model.with_name("out.onnx"), spec=spec_from_toml(spec))


@pytest.mark.slow
def test_a_detr_that_others_trained(shared_data: Path, tmp_path: Path, edgedetr: Any) -> None:
    """Its best boxes stay, although its last layer overflows FP16 where nothing prevents it.

    On images of which its ranges know nothing: FP16 keeps all, INT8 most (four of five over all).
    """
    spec_path = Path(__file__).parents[2] / "benchmarks" / "specs" / "deimv2_femto_qr.toml"
    folder = shared_data / "deimv2_femto_qr"
    model, images = folder / "deimv2_femto_416.onnx", tmp_path / "seen"
    paths = list_images(folder / "images")
    unseen = paths[::6]
    images.mkdir()
    for path in paths:
        if path not in unseen:
            (images / path.name).symlink_to(path)
    stats, half, int8 = (tmp_path / name for name in ("m.json", "m.fp16.onnx", "m.int8.onnx"))
    given = ("--spec", spec_path, "--images", images)
    assert edgedetr("calib", "collect", model, *given, "-o", stats)[0] == 0
    assert edgedetr("export", "qdq", model, stats, "--spec", spec_path, "-o", int8)[0] == 0
    code, out, _ = edgedetr("export", "fp16", model, *given, "-o", half)
    assert code == 0
    assert "range 6" in out
    spec = spec_from_toml(spec_path)
    preprocess, fed = Preprocessor(spec), np.zeros((1, 3, 416, 416), np.float32)
    runners = OnnxRunner(model, spec), OnnxRunner(half), OnnxRunner(int8)
    kept = 0
    for path in unseen:
        preprocess(read_image(path), fed[0])
        (score, box), (half_score, half_box), (int8_score, int8_box) = (
            _best(*runner(fed)) for runner in runners
        )
        assert abs(half_score - score) < 0.005
        assert iou(box, half_box)[0, 0] > 0.99
        kept += bool(score - int8_score < 0.05 and iou(box, int8_box)[0, 0] > 0.95)
    assert len(unseen) == 5
    assert kept >= 3


def _best(logits: np.ndarray, boxes: np.ndarray) -> tuple[float, np.ndarray]:
    best = int(logits[0, :, 0].argmax())
    x, y, w, h = boxes[0, best]
    corners = np.array([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])
    return float(1 / (1 + np.exp(-logits[0, best, 0]))), corners
