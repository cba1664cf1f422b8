"""Which of a package's models serves: the engine that fits this machine, or else the ONNX."""

import json
import logging
import sys
from dataclasses import asdict

import numpy as np
import pytest

from edgedetr.runtime import Detector, Frame
from edgedetr.runtime.backends import auto
from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.errors import ArtifactError, BackendError, GateError, UsageError
from edgedetr.runtime.manifest import manifest_path
from edgedetr.runtime.package.reader import Package, ppm_header
from edgedetr.runtime.self_test import Golden, GoldenAnswer, best_detections, golden_inputs

IMAGE = np.full((20, 40, 3), 255, np.uint8)
HERE = "tensorrt==10.3.0"
WRITTEN = {"builder": HERE}


@pytest.fixture
def packed(  # noqa: PLR0913, PLR0917 - fixtures
    tiny_onnx, tiny_engine, package_files, write_folder, keys, tmp_path, kernels, gpu, monkeypatch
):
    """Write a package of ONNX models and engines and open it.

    An engine is given by its name, the name of what it was built from, and how `tiny_engine`
    writes it.
    """
    gpu.kernels = kernels
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # whether it is installed or not

    def write(engines, graphs=("a",)):
        path = tiny_onnx()
        found = best_detections(open_session(path), IMAGE, 1)
        answers = tuple(
            GoldenAnswer(
                f"models/{name}.onnx",
                tuple(tuple(map(float, box)) for box in found.boxes),  # type: ignore[misc]
                tuple(map(float, found.scores)),
                tuple(map(int, found.labels)),
                box_error_px=0.5,
                score_error=0.01,
            )
            for name in graphs
        )
        spec = open_session(path).spec
        golden = Golden(golden_inputs(spec), IMAGE.shape[:2], answers)
        changes = {f"models/{name}.onnx": path.read_bytes() for name in graphs}
        changes |= {
            "golden.json": json.dumps(asdict(golden)).encode(),
            "golden.ppm": ppm_header(IMAGE.shape[:2]) + IMAGE.tobytes(),
        }
        models: list[dict[str, object]] = [
            {"name": f"models/{name}.onnx", "kind": "onnx", "precision": "fp32"} for name in graphs
        ]
        for name, source, how in engines:
            engine = tiny_engine(**how)
            parts = [f"models/{name}.engine", f"models/{name}.engine.manifest.json"]
            changes[parts[0]] = engine.read_bytes()
            changes[parts[1]] = manifest_path(engine).read_bytes()
            models.append(
                {
                    "name": parts[0],
                    "kind": "engine",
                    "precision": "fp32",
                    "companions": parts[1:],
                    "source": f"models/{source}.onnx",
                }
            )
        return write_folder(package_files(changes=changes, models=models), tmp_path / "package")

    def open_it(engines, graphs=("a",), **options):
        return Detector.open(write(engines, graphs), public_key=keys[1], **options)

    return open_it


def finds_the_white(detector):
    with detector:
        assert len(detector.detect(Frame(IMAGE))) == 1


@pytest.mark.parametrize("backend", ["", "auto", "tensorrt"])
def test_an_engine_that_fits_serves(packed, install_trt, backend, caplog):
    caplog.set_level(logging.INFO)
    install_trt()
    detector = packed([("x", "a", WRITTEN)], backend=backend)
    assert detector.backend.startswith("tensorrt 10.3.0, Orin (fake)")
    assert detector.backend.endswith("; models/x.engine")
    assert detector.backend in caplog.text
    finds_the_white(detector)


def test_of_several_engines_the_one_for_this_machine_serves(packed, install_trt):
    install_trt()
    engines = [
        ("thor", "a", {"builder": "tensorrt==10.13.3", "targets": ("sm_110",)}),
        ("rtx", "a", {"builder": "tensorrt_rtx==1.7.1"}),
        ("orin", "a", WRITTEN),
    ]
    finds_the_white(detector := packed(engines))
    assert detector.backend.endswith("models/orin.engine")


def test_of_engines_that_fit_the_one_of_the_first_model_serves(packed, install_trt):
    install_trt()
    with packed([("y", "b", WRITTEN), ("x", "a", WRITTEN)], ("a", "b")) as detector:
        assert detector.backend.endswith("models/x.engine")


@pytest.mark.parametrize("backend", ["", "auto"])
def test_where_no_engine_fits_the_first_onnx_serves_and_it_is_said(
    packed, install_trt, backend, caplog, monkeypatch
):
    install_trt(version="10.7.0")
    monkeypatch.setattr(auto, "measure", lambda sessions: dict.fromkeys(sessions, 1.0))
    detector = packed([("x", "a", WRITTEN)], ("a", "b"), backend=backend)
    assert detector.backend.startswith("onnxruntime")
    assert detector.backend.endswith("; models/a.onnx")
    assert ("chosen of" in detector.backend) == (backend == "auto")
    assert "no engine fits, running models/a.onnx: models/x.engine was built" in caplog.text
    assert "this machine has TensorRT 10.7.0 on sm_87. Rebuild it here" in caplog.text
    finds_the_white(detector)


@pytest.mark.parametrize("lacks", ["gpu", "tensorrt", "pycuda"])
def test_a_machine_without_gpu_or_library_is_served_by_the_onnx(
    packed, install_trt, gpu, monkeypatch, lacks, caplog
):
    if lacks != "tensorrt":
        install_trt()
    else:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    if lacks == "gpu":
        gpu.is_lost = True
    if lacks == "pycuda":
        monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    finds_the_white(detector := packed([("x", "a", WRITTEN)]))
    assert detector.backend.endswith("models/a.onnx")
    assert {"gpu": "CUDA finds none"}.get(lacks, f"{lacks} is needed") in caplog.text


def test_a_backend_that_is_named_is_not_replaced(packed, install_trt):
    install_trt()
    with packed([("x", "a", WRITTEN)], backend="onnxruntime") as detector:
        assert detector.backend.endswith("models/a.onnx")
    with pytest.raises(ArtifactError, match=r"x\.engine was built with TensorRT 10\.2\.0"):
        packed([("x", "a", {"builder": "tensorrt==10.2.0"})], backend="tensorrt")
    with pytest.raises(UsageError, match="tensorrt_rtx is needed and cannot be imported"):
        packed([("x", "a", WRITTEN)], backend="tensorrt_rtx")


def test_an_engine_that_fits_and_fails_is_not_passed_over(packed, install_trt):
    install_trt()
    with pytest.raises(GateError, match="golden detection"):
        packed([("x", "a", WRITTEN | {"bias": [[-40.0, -9.0], [-9.0, -9.0]]})])
    with pytest.raises(BackendError):
        packed([("x", "a", WRITTEN | {"context_bytes": 1 << 60})])


def test_an_engine_with_a_damaged_manifest_is_refused(packed, install_trt, monkeypatch):
    install_trt()
    monkeypatch.setattr(Package, "read", broken)
    with pytest.raises(ArtifactError, match=r"x\.engine\.manifest\.json: not a manifest"):
        packed([("x", "a", WRITTEN)])


def broken(package, name):
    data = package._archive.members[name].path.read_bytes()
    return b"{" if name.endswith("engine.manifest.json") else data


def test_a_swap_chooses_too(packed, install_trt, tiny_onnx, keys, tmp_path):
    install_trt()
    packed([("x", "a", WRITTEN)]).close()
    with Detector.open(tiny_onnx()) as detector:
        detector.swap(tmp_path / "package", public_key=keys[1])
        assert detector.backend.startswith("tensorrt 10.3.0")
