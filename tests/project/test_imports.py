"""The vehicle's code stays light, and the namespace stays open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("runtime", "distill", "calib", "export", "benchmarks")
HEAVY = {
    "accelerate",
    "jinja2",
    "matplotlib",
    "onnx",
    "pandas",
    "pycocotools",
    "scipy",
    "torch",
    "torchvision",
    "tqdm",
    "transformers",
}


def _imported(statement: str) -> set[str]:
    """Return the top-level modules that a statement loads in a fresh interpreter."""
    script = f"{statement}; import json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_the_runtime_package_costs_nothing() -> None:
    assert not _imported("import edgedetr.runtime") & (
        HEAVY | {"click", "cv2", "numpy", "onnxruntime"}
    )


def test_the_detector_needs_numpy_and_opencv_only() -> None:
    found = _imported("from edgedetr.runtime import Detections, Detector, Frame, ModelSpec")
    assert {"cv2", "numpy"} <= found
    assert not found & (HEAVY | {"click", "onnxruntime"})


def test_the_onnxruntime_backend_needs_onnxruntime_only() -> None:
    found = _imported("import edgedetr.runtime.backends.onnxruntime")
    assert "onnxruntime" in found
    assert not found & (HEAVY | {"click", "cv2"})


def test_the_openvino_backend_needs_openvino_only() -> None:
    found = _imported("import edgedetr.runtime.backends.openvino")
    assert "openvino" in found
    assert not found & (HEAVY | {"click", "cv2", "onnxruntime"})


@pytest.mark.parametrize("backend", ["auto", "tensorrt", "tensorrt_rtx"])
def test_the_other_backends_import_their_library_when_they_open(backend: str) -> None:
    found = _imported(f"import edgedetr.runtime.backends.{backend}")
    libraries = {"onnxruntime", "openvino", "pycuda", "tensorrt", "tensorrt_rtx"}
    assert not found & (HEAVY | libraries | {"click"})


@pytest.mark.parametrize("source", SOURCES)
def test_a_command_line_loads_only_click(source: str) -> None:
    stage = "bench" if source == "benchmarks" else source
    found = _imported(f"import edgedetr.{stage}.cli")
    assert "click" in found
    assert not found & (HEAVY | {"cv2", "numpy", "onnxruntime"})


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import edgedetr.runtime

    with pytest.raises(AttributeError, match="has no attribute 'Detektor'"):
        edgedetr.runtime.Detektor  # noqa: B018


@pytest.mark.parametrize("source", SOURCES)
def test_the_namespace_stays_open(source: str) -> None:
    """An __init__.py there would hide the other stages."""
    assert (ROOT / source / "edgedetr").is_dir()
    assert not (ROOT / source / "edgedetr" / "__init__.py").exists()
