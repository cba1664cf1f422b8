"""A backbone alone is no detector: every command that wants one names the setting for it."""

import json

import cv2
import numpy as np
import pytest
import torchvision
from safetensors.torch import save_file

from edgedetr.distill.weights.source_backbone import import_backbone

TRAIN = ("distill", "train", "{config}", "--out", "{out}", "--set", "student.family=dab_detr")
COMMANDS = {
    "detect": ("detect", "{source}", "--images", "{image}", "--out", "{out}"),
    "run": ("run", "{source}", "--source", "{image}", "--frames", "1"),
    "export": ("export", "onnx", "{source}", "-o", "{out}.onnx"),
    "verify": ("verify", "{source}", "{source}", "--images", "{image}"),
    "teacher": (*TRAIN, "--set", "student.preset=r18", "--set", "teacher={source}"),
    "start": (*TRAIN, "--set", "student.preset=r18", "--set", "student.init={source}"),
    "start of its size": (
        *TRAIN,
        "--set",
        "student.preset=imported",
        "--set",
        "student.init={source}",
    ),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A backbone as timm's folder, torchvision's tensors, what import writes of it, and a name."""
    folder = tmp_path_factory.mktemp("weights")
    timm = folder / "resnet18.tv_in1k"
    timm.mkdir()
    save_file(torchvision.models.resnet18().state_dict(), timm / "model.safetensors")
    (timm / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    import_backbone(timm, folder / "backbone.safetensors", name="resnet18")
    return {
        "folder": timm,
        "tensors": timm / "model.safetensors",
        "import": folder / "backbone.safetensors",
        "name": "torchvision:resnet18",
    }


@pytest.mark.parametrize("kind", ["folder", "tensors", "import", "name"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_backbone_in_a_detector_s_place_names_the_setting_for_it(
    command, kind, sources, tmp_path, monkeypatch, edgedetr
):
    monkeypatch.setenv("EDGEDETR_CACHE", str(tmp_path / "cache"))
    image, config = tmp_path / "images" / "a.png", tmp_path / "run.toml"
    image.parent.mkdir()
    cv2.imwrite(str(image), np.zeros((64, 96, 3), np.uint8))
    config.write_text(f"[data]\nroot = '{tmp_path}'\n")
    given = {"source": sources[kind], "image": image, "config": config, "out": tmp_path / "out"}
    status, _, err = edgedetr(*(word.format(**given) for word in COMMANDS[command]))
    (line,) = [line for line in err.splitlines() if not line.endswith(", once")]
    assert status == 1
    wanted = "is a backbone alone, no detector; name it in student.backbone_weights"
    assert line == f"edgedetr: {sources[kind]} {wanted}"
