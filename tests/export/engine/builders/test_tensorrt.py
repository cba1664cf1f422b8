"""For which devices TensorRT builds on a machine, with fakes of it."""

import ctypes

import pytest

from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.errors import ArtifactError, UsageError


def test_other_devices_need_their_own_build(tensorrt, model, tmp_path):
    tensorrt()
    options = EngineOptions(compute_capabilities=("8.7", "8.6"))
    with pytest.raises(UsageError, match=r"here Orin with compute capability 8\.7; found .* 8\.6:"):
        export_engine(model(), tmp_path / "net.engine", options)
    export_engine(model(), tmp_path / "a.engine", EngineOptions(compute_capabilities=("8.7",)))


def test_tensorrt_needs_a_gpu(tensorrt, fake_cuda, model, monkeypatch, tmp_path):
    tensorrt()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake_cuda(failing="cuInit"))
    with pytest.raises(ArtifactError, match="builds on a GPU and this machine has none; build on"):
        export_engine(model(), tmp_path / "net.engine")


def test_a_hardware_compatible_engine_names_every_later_gpu(
    tensorrt, model, fake_cuda, monkeypatch, tmp_path
):
    seen = tensorrt()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake_cuda(minor=6))
    options = EngineOptions(hardware_compatible=True)
    report = export_engine(model(), tmp_path / "net.engine", options)
    assert seen.config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert report.targets == ("sm_80+",)


def test_a_jetson_builds_no_hardware_compatible_engine(tensorrt, model, tmp_path):
    tensorrt()
    with pytest.raises(UsageError, match=r"on Orin: Tegra has no such mode"):
        export_engine(model(), tmp_path / "net.engine", EngineOptions(hardware_compatible=True))
