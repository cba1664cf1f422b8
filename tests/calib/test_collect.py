"""Collecting ranges, on a network small enough to follow by hand.

``images`` -> conv ``first`` (weights 2 and -3) -> ReLU ``r`` -> conv ``second``; with three equal
input channels of value v, ``r`` is 6 v and 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest

from edgedetr.calib import collect as collection
from edgedetr.calib.collect import collect
from edgedetr.export.transforms.quantize import quantize
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Node = tuple[str, str, list[str], str, dict[str, int]]
    Build = Callable[..., onnx.ModelProto]

SPEC = ModelSpec((4, 8), ("Car",))


def write_images(folder: Path, *levels: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{i:06d}.png" for i in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        cv2.imwrite(str(path), np.full((4, 8, 3), level, np.uint8))
    return paths


@pytest.fixture
def model(tmp_path: Path, onnx_model: Build) -> Path:
    return build(tmp_path, onnx_model)


def build(
    folder: Path,
    onnx_model: Build,
    middle: str = "Relu",
    batch: int | str = 1,
    spec: ModelSpec | None = SPEC,
) -> Path:
    first = np.stack([np.full((3, 1, 1), 2.0), np.full((3, 1, 1), -3.0)])
    model = onnx_model(
        [
            ("Conv", "first", ["images", "w1"], "a", {}),
            (middle, "middle", ["a"], "r", {}),
            ("Conv", "second", ["r", "w2"], "y", {}),
            ("NonZero", "never needed", ["y"], "n", {}),
            ("Cast", "never needed either", ["n"], "places", {"to": 1}),
        ],
        {"w1": first, "w2": np.ones((1, 2, 1, 1))},
        inputs={"images": (batch, 3, 4, 8)},
        outputs=["y", "places"],
        spec=spec,
        classes=1,
    )
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def test_ranges_are_those_worked_out_by_hand(model: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 51, 204, 102)
    stats = collect(model, images, method="max")
    amax = {r.tensor: r.amax for r in stats.ranges}
    assert amax == pytest.approx({"images": 0.8, "r": 4.8, "y": 4.8})
    ends = {r.tensor: (r.low, r.high) for r in stats.ranges}
    assert ends == {r.tensor: (0.0, r.amax) for r in stats.ranges}
    assert (stats.model, stats.frames, stats.spec) == ("net.onnx", 3, SPEC)
    stats.check_model(model)


def test_magnitudes_are_those_worked_out_by_hand(model: Path, tmp_path: Path) -> None:
    """``a`` is 6 v and -9 v, ``y`` is 6 v; v reaches 0.8."""
    found = collect(model, write_images(tmp_path / "images", 51, 204, 102)).magnitudes
    assert found == pytest.approx({"a": 7.2, "r": 4.8, "y": 4.8, "places": found["places"]})


def test_percentile_looks_at_all_frames(model: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 255, *[51] * 9)
    amax = {
        r.tensor: r.amax for r in collect(model, images, method="percentile", percentile=90).ranges
    }
    assert amax["images"] == pytest.approx(0.2, abs=2 / 2048)
    assert amax["r"] == pytest.approx(1.2, abs=8 / 2048)


def test_parts_of_the_network_give_the_same_ranges(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "images", 30, 220)
    whole = collect(model, images)
    monkeypatch.setattr(collection, "_CHUNK_BYTES", 1)
    assert collect(model, images) == whole


def test_tensors_are_cut_into_parts_by_size(onnx_model: Build, tmp_path: Path) -> None:
    loaded = onnx.load(build(tmp_path, onnx_model))
    assert collection._split(loaded, ["images", "a", "r"], "images") == [["a", "r"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "_CHUNK_BYTES", 4 * 64)
        assert collection._split(loaded, ["images", "a", "r"], "images") == [["a"], ["r"]]


def test_the_hash_follows_pixels_and_order(model: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 10, 20)
    digest = collect(model, images).frames_sha256
    assert collect(model, images).frames_sha256 == digest
    assert collect(model, images[::-1]).frames_sha256 != digest
    cv2.imwrite(str(images[1]), np.full((4, 8, 3), 21, np.uint8))
    assert collect(model, images).frames_sha256 != digest


@pytest.mark.parametrize("batch", [2, "batch"])
def test_other_batches_give_the_same_ranges(
    batch: int | str, tmp_path: Path, onnx_model: Build
) -> None:
    images = write_images(tmp_path / "images", 51, 204)
    path = build(tmp_path, onnx_model, batch=batch)
    assert [r.amax for r in collect(path, images, method="max").ranges] == [
        pytest.approx(0.8),
        pytest.approx(4.8),
        pytest.approx(4.8),
    ]


def test_what_is_not_finite_names_tensor_and_image(tmp_path: Path, onnx_model: Build) -> None:
    images = write_images(tmp_path / "images", 0, 100)
    path = build(tmp_path, onnx_model, middle="Log")
    with pytest.raises(DataError, match=r"000000\.png: the activation r holds NaN or infinity"):
        collect(path, images)


def test_a_model_must_fit_its_spec(tmp_path: Path, onnx_model: Build) -> None:
    images = write_images(tmp_path / "images", 0)
    bare = build(tmp_path, onnx_model, spec=None)
    with pytest.raises(ArtifactError, match="give --spec"):
        collect(bare, images)
    assert collect(bare, images, SPEC).spec == SPEC
    with pytest.raises(ArtifactError, match=r"takes images float32 \[1, 3, 4, 8\], .*set input_hw"):
        collect(bare, images, ModelSpec((8, 8), ("Car",)))
    with pytest.raises(ArtifactError, match=r"set input_name to the image's name \(images\)"):
        collect(bare, images, ModelSpec((4, 8), ("Car",), input_name="pixels"))


def test_a_model_without_convolutions_is_refused(tmp_path: Path, onnx_model: Build) -> None:
    relu: Node = ("Relu", "", ["images"], "y", {})
    inputs = {"images": (1, 3, 4, 8)}
    model = onnx_model([relu], {}, inputs=inputs, outputs=["y"], spec=SPEC, classes=1)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ArtifactError, match="nothing to calibrate"):
        collect(tmp_path / "net.onnx", write_images(tmp_path / "images", 0))


def test_a_quantized_model_is_not_calibrated_again(tmp_path: Path, onnx_model: Build) -> None:
    path = build(tmp_path, onnx_model)
    model = onnx.load(path)
    stats = collect(path, images := write_images(tmp_path / "images", 0, 100))
    quantized = quantize(model, stats, target="openvino")
    onnx.save(quantized, path)
    with pytest.raises(ArtifactError, match="is quantized already; calibrate the float32 model"):
        collect(path, images)


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path, onnx_model: Build) -> None:
    path = build(tmp_path, onnx_model)
    model = onnx.load(path)
    model.graph.node[1].op_type, model.graph.node[1].domain = "Swizzle", "somewhere"
    model.opset_import.append(onnx.helper.make_opsetid("somewhere", 1))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"net.onnx: ONNX Runtime cannot load it.*Swizzle"):
        collect(path, write_images(tmp_path / "images", 0))


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_damaged_model_is_refused(model: Path, keep: int) -> None:
    model.write_bytes(model.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="not a whole ONNX model"):
        collect(model, [])
    with pytest.raises(ArtifactError, match="is missing"):
        collect(model.with_name("other.onnx"), [])
