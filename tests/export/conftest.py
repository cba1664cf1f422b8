"""Untrained detectors that answer as trained ones do, and one of them as ONNX."""

import runpy
from pathlib import Path

import cv2
import pytest

from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((64, 96), ("Car", "Pedestrian", "Cyclist"))


def settled_model(family="d_fine", seed=0, preset="edge-tiny", spec=SPEC):
    """Make a model of fixed weights whose batch norms have seen a few images.

    Fresh ones would let every feature vanish, and then all queries tie.
    """
    import torch

    from edgedetr.distill.model import new_model
    from edgedetr.export.textures import textured_frames
    from edgedetr.runtime.preprocess import Preprocessor

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = new_model(family, preset, spec)
        for parameter in model.network.parameters():  # heads that start at zero say nothing
            parameter.add_(0.02 * torch.randn_like(parameter) * parameter.requires_grad)
        images = torch.zeros(8, 3, *spec.input_hw)
        for image, frame in zip(images, textured_frames(spec.input_hw, 8), strict=True):
            Preprocessor(spec)(frame, image.numpy())
        model.network.eval()
        for module in model.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
                module.momentum = None
        model.module.predict(model.network, images)
    model.network.eval()
    return model


@pytest.fixture(scope="session")
def make_model():
    """`settled_model`."""
    pytest.importorskip("torch")
    return settled_model


@pytest.fixture(scope="session")
def checkpoint(make_model, tmp_path_factory):
    """The checkpoint of a `settled_model`."""
    from edgedetr.distill.checkpoint import save_model

    path = tmp_path_factory.mktemp("checkpoint") / "student.safetensors"
    save_model(path, make_model(), command="edgedetr distill train")
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
    from edgedetr.export.textures import textured_frames

    folder = tmp_path_factory.mktemp("images")
    for index, frame in enumerate(textured_frames((64, 96), 2)):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def fake_tensorrt():
    """`fake_tensorrt` of the file of that name."""
    return runpy.run_path(str(Path(__file__).with_name("fake_tensorrt.py")))["fake_tensorrt"]
