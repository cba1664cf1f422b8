"""Which library builds, and on which machine, with fakes of TensorRT."""

import ctypes
import sys

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


def test_an_old_version_is_refused(tensorrt, model, tmp_path):
    tensorrt("8.6.1")
    with pytest.raises(UsageError, match=r"tensorrt 8\.6\.1 found, 10\.3 or later wanted"):
        export_engine(model(), tmp_path / "net.engine")


def test_tensorrt_needs_a_gpu(tensorrt, fake_cuda, model, monkeypatch, tmp_path):
    tensorrt()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake_cuda(failing="cuInit"))
    with pytest.raises(ArtifactError, match="builds on a GPU and this machine has none; build on"):
        export_engine(model(), tmp_path / "net.engine")


def test_what_to_install_is_said(monkeypatch, model, tmp_path):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArtifactError, match=r"edgedetr\[tensorrt\].*edgedetr\[tensorrt-rtx\]"):
        export_engine(model(), tmp_path / "net.engine")
