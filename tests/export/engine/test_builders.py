"""Which library builds, and what to install where there is none."""

import sys

import pytest

from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.errors import ArtifactError, UsageError


def test_an_old_version_is_refused(tensorrt, model, tmp_path):
    tensorrt("8.6.1")
    with pytest.raises(UsageError, match=r"tensorrt 8\.6\.1 found, 10\.3 or later wanted"):
        export_engine(model(), tmp_path / "net.engine")


def test_what_to_install_is_said(monkeypatch, model, tmp_path):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArtifactError, match=r"edgedetr\[tensorrt\].*edgedetr\[tensorrt-rtx\]"):
        export_engine(model(), tmp_path / "net.engine")
