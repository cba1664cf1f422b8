"""Detectors without training that answer as trained ones do, and small models to pack."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.export.transforms.textures import textured_frames
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec, spec_from_json

if TYPE_CHECKING:
    from edgedetr.distill.model import Model
    from edgedetr.export.to_onnx import Exported
    from edgedetr.export.transforms.quantize import QuantizedShare


@pytest.fixture
def few_channels(monkeypatch):
    """Lets convolutions of the small graphs of these tests into INT8, however few channels."""
    monkeypatch.setattr("edgedetr.calib.placement.FEW_CHANNELS", 0)


@pytest.fixture(scope="session")
def checkpoint(settled_model, tmp_path_factory):
    """The checkpoint of a `settled_model`."""
    from edgedetr.distill.weights.checkpoint import save_model

    path = tmp_path_factory.mktemp("checkpoint") / "student.safetensors"
    save_model(path, settled_model(), command="edgedetr distill train")
    return path


@pytest.fixture(scope="session")
def exported(checkpoint, tmp_path_factory):
    """What ``export_onnx`` wrote for it, and what it returned."""
    from edgedetr.export.to_onnx import export_onnx

    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    return path, export_onnx(checkpoint, path, command="edgedetr export onnx")


@pytest.fixture(scope="session")
def calibration_images(tmp_path_factory):
    """Two images for ranges."""
    folder = tmp_path_factory.mktemp("images")
    for index, frame in enumerate(textured_frames((64, 96), 2)):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return sorted(folder.iterdir())


@dataclass(frozen=True, eq=False)
class FamilyFiles:
    """A family's `settled_model` as the commands write it, and what they returned."""

    model: Model
    traced: Path
    fp32: Path
    fp16: Path
    int8_fp16: Path
    int8_fp32: Path
    exported: Exported
    share: QuantizedShare


@pytest.fixture(scope="session")
def family_files(settled_model, calibration_images, tmp_path_factory):
    """Makes the `FamilyFiles` of a family, once: its INT8 stands beside FP16 and beside FP32."""

    @cache
    def make(family):
        from edgedetr.calib.collect import collect
        from edgedetr.distill.weights.checkpoint import save_model
        from edgedetr.export import to_onnx
        from edgedetr.export.to_fp16 import export_fp16
        from edgedetr.export.to_qdq import export_qdq
        from edgedetr.export.transforms.trace import trace

        folder = tmp_path_factory.mktemp(family)
        names = ("m.safetensors", "traced.onnx", "m.calib.json", "m.onnx", "m.fp16.onnx")
        checkpoint, traced, stats, fp32, fp16 = (folder / name for name in names)
        int8_fp16, int8_fp32 = folder / "m.int8.onnx", folder / "m.int8.fp32.onnx"
        model = settled_model(family)
        save_model(checkpoint, model, command="a test")

        def trace_and_keep(*arguments):
            trace(*arguments)
            shutil.copy(arguments[1], traced)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(to_onnx, "trace", trace_and_keep)
            exported = to_onnx.export_onnx(checkpoint, fp32)
        export_fp16(fp32, fp16)
        collect(fp32, calibration_images).write(stats)
        share = export_qdq(fp32, stats, int8_fp16)
        export_qdq(fp32, stats, int8_fp32, rest="fp32")
        return FamilyFiles(model, traced, fp32, fp16, int8_fp16, int8_fp32, exported, share)

    return make


GREY, CHANNELS, GREY_HW = 127, 8, (32, 64)
GREY_SPEC = ModelSpec(GREY_HW, ("Car", "Pedestrian", "Cyclist"), resize="stretch")
GREY_CAR = "Car 0.00 0 0.00 16.00 8.00 48.00 24.00 1.5 1.6 3.9 1.0 1.5 9.0 0.0\n"
FINE, COARSE = GREY / 255, 1000 * GREY / 255


@pytest.fixture
def grey_kitti(tmp_path):
    """Makes a KITTI folder of grey frames with a car each, the training split first."""

    def make(train=1, val=3):
        root = tmp_path / "kitti"
        for name in ("training/image_2", "training/label_2", "ImageSets"):
            (root / name).mkdir(parents=True)
        names = [f"{frame:06d}" for frame in range(train + val)]
        for name in names:
            image = np.full((*GREY_HW, 3), GREY, np.uint8)
            cv2.imwrite(str(root / f"training/image_2/{name}.png"), image)
            (root / f"training/label_2/{name}.txt").write_text(GREY_CAR, encoding="utf-8")
        for split, chosen in {"train": names[:train], "val": names[train:]}.items():
            text = "".join(f"{name}\n" for name in chosen)
            (root / f"ImageSets/{split}.txt").write_text(text, encoding="utf-8")
        return root

    return make


@pytest.fixture
def grey_onnx(onnx_model, tmp_path):
    """A detector that can be worked out by hand: three convolutions and a linear layer.

    Each hands the frame's grey on, and the one box is the grey times a constant.
    """
    box = np.array([32 / 64, 16 / 32, 32 / 64, 16 / 32]) / FINE
    model = onnx_model(
        [
            ("Conv", "/net/backbone/stem/Conv", ["images", "w_stem"], "a", {}),
            ("Conv", "/net/backbone/body/Conv", ["a", "w_body"], "b", {}),
            ("Conv", "/net/encoder/fpn/Conv", ["b", "w_fpn"], "c", {}),
            ("ReduceMean", "/net/encoder/Mean", ["c"], "d", {"axes": [2], "keepdims": 0}),
            ("Transpose", "/net/encoder/Turn", ["d"], "e", {"perm": [0, 2, 1]}),
            ("MatMul", "/net/encoder/mlp/MatMul", ["e", "w_mlp"], "f", {}),
            ("ReduceMean", "/net/encoder/Mean_1", ["f"], "g", {"axes": [1]}),
            ("MatMul", "/net/bbox_embed/MatMul", ["g", "w_box"], "boxes", {}),
            ("Identity", "/net/class_embed/Identity", ["fixed_logits"], "logits", {}),
        ],
        {
            "w_stem": np.full((CHANNELS, 3, 1, 1), 1 / 3),
            "w_body": np.full((CHANNELS, CHANNELS, 1, 1), 1 / CHANNELS),
            "w_fpn": np.full((CHANNELS, CHANNELS, 1, 1), 1 / CHANNELS),
            "w_mlp": np.full((CHANNELS, CHANNELS), 1 / CHANNELS),
            "w_box": np.tile(box / CHANNELS, (CHANNELS, 1)),
            "fixed_logits": np.array([[[4.0, -20.0, -20.0]]]),
        },
        inputs={"images": (1, 3, *GREY_HW)},
        outputs=["logits", "boxes"],
        spec=GREY_SPEC,
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def write_grey_stats(grey_onnx, tmp_path):
    """Writes ranges for `grey_onnx`; a layer whose range is far too wide rounds the grey to 0."""

    def write(*coarse):
        tensors = {"backbone/stem": "images", "backbone/body": "a", "encoder/fpn": "b", "mlp": "e"}
        stats = CalibrationStats(
            model=grey_onnx.name,
            model_sha256=sha256(grey_onnx),
            spec=GREY_SPEC,
            method="max",
            percentile=99.99,
            frames=1,
            frames_sha256="0",
            ranges=tuple(
                TensorRange(tensor, amax, amax)
                for layer, tensor in tensors.items()
                for amax in [COARSE if layer in coarse else FINE]
            ),
        )
        path = tmp_path / "stats.json"
        stats.write(path)
        return path

    return write


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch):
    monkeypatch.delenv("EDGEDETR_KEY_PASSPHRASE", raising=False)


@pytest.fixture
def fp32(tiny_onnx, tmp_path):
    """A small model in FP32."""
    return tiny_onnx().rename(tmp_path / "m.onnx")


@pytest.fixture
def stats(fp32, tmp_path):
    """Stats of the small model."""
    path = tmp_path / "m.calib.json"
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    made = CalibrationStats("m.onnx", sha256(fp32), spec, "mse", 99.99, 40, "ab" * 32, ())
    made.write(path)
    return path


@pytest.fixture
def int8(fp32, stats, tmp_path):
    """The small model with its input in INT8, and its manifest."""
    model = onnx.load(fp32)
    constants = [
        numpy_helper.from_array(np.array(1 / 127, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero_point"),
    ]
    model.graph.initializer.extend(constants)
    for node in model.graph.node:
        node.input[:] = ["seen" if name == "images" else name for name in node.input]
    pair = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero_point"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero_point"], ["seen"]),
    ]
    nodes = [*pair, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path = tmp_path / "m.int8.onnx"
    onnx.save(model, path)
    spec = spec_from_json(model.metadata_props[0].value, "m")
    write_manifest(path, kind="qdq", command="", spec=spec, parents=[fp32, stats])
    return path


@pytest.fixture
def key(edgedetr, tmp_path):
    """A private key; the public one lies beside it."""
    path = tmp_path / "keys" / "k"
    assert edgedetr("package", "keygen", path)[0] == 0
    return path
