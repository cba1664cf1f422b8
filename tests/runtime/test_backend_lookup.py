"""Which backend runs an artifact when none is named, and what is said of one that is missing."""

import sys
from pathlib import Path

import pytest

from edgedetr.runtime import backend_lookup
from edgedetr.runtime.backend_lookup import BACKENDS, backend, suited_backend
from edgedetr.runtime.errors import UnknownNameError, UsageError


@pytest.fixture
def hide(monkeypatch):
    """Make libraries look as if they were not installed."""

    def hide_these(*hidden):
        monkeypatch.setattr(
            backend_lookup, "find_spec", lambda name: None if name in hidden else object()
        )

    return hide_these


def test_an_onnx_file_runs_in_onnx_runtime_unless_only_openvino_is_there(hide):
    assert suited_backend(Path("x.onnx")) == "onnxruntime"
    hide("onnxruntime")
    assert suited_backend(Path("x.onnx")) == "openvino"
    hide("openvino")
    assert suited_backend(Path("x.onnx")) == "onnxruntime"
    hide("onnxruntime", "openvino")
    assert suited_backend(Path("x.onnx")) == "onnxruntime"


def test_a_backend_whose_library_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, f"{BACKENDS}.openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        UsageError, match=r"needs the package openvino.*pip install 'edgedetr\[open"
    ):
        backend("openvino")


def test_a_backend_is_found_by_its_file():
    assert backend("onnxruntime").SUFFIXES == (".onnx",)
    with pytest.raises(UnknownNameError, match="did you mean 'onnxruntime'"):
        backend("onxruntime")
