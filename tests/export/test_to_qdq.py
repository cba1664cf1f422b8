"""Q/DQ on a really trained compact detector and real photographs, and a graph that is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from edgedetr.calib.collect import collect
from edgedetr.export.to_qdq import export_qdq
from edgedetr.graph.sampling_plugin import DOMAIN, PLUGIN, define_plugin
from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.calib.targets import Target
    from edgedetr.runtime.session import Session

SIDE_PX = 416
SPEC = ModelSpec(
    (SIDE_PX, SIDE_PX), ("QR code",), resize="stretch", logits_name="2166", boxes_name="2167"
)


@pytest.fixture
def uint8_stats(grey_onnx: Path, grey_kitti: Callable[..., Path], tmp_path: Path) -> Path:
    """Ranges of `grey_onnx` for CPUs."""
    photographs = list_images(grey_kitti() / "training" / "image_2")
    path = tmp_path / "grey.calib.json"
    collect(grey_onnx, photographs[:1], corrects_bias=False).write(path)
    return path


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_a_library_that_cannot_run_the_graph_is_named(
    grey_onnx: Path,
    uint8_stats: Path,
    tmp_path: Path,
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "int8.onnx"
    export_qdq(grey_onnx, uint8_stats, output, target=target)
    before = output.read_bytes()

    def refuse(path: Path, *_: object) -> None:
        raise ArtifactError(f"{path}: it knows no opset 13")

    monkeypatch.setattr(f"edgedetr.runtime.backends.{target}.open_session", refuse)
    message = rf"^{target} [\d.]+ cannot run the INT8 graph: int8.onnx: it knows no opset 13; inst"
    with pytest.raises(ArtifactError, match=message):
        export_qdq(grey_onnx, uint8_stats, output, target=target)
    assert output.read_bytes() == before
    assert {p.name for p in tmp_path.glob("*int8*")} == {"int8.onnx", "int8.onnx.manifest.json"}
    export_qdq(grey_onnx, uint8_stats, output, include="stem")  # TensorRT runs none of these


def test_where_the_library_is_not_installed_the_graph_is_written(
    grey_onnx: Path, uint8_stats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise UsageError(f"backend {name} needs a package")

    monkeypatch.setattr("edgedetr.export.to_qdq.find_backend", missing)
    export_qdq(grey_onnx, uint8_stats, tmp_path / "int8.onnx", target="openvino")
    assert (tmp_path / "int8.onnx").is_file()


@pytest.mark.slow
def test_a_trained_detector_keeps_its_boxes(shared_data: Path, tmp_path: Path) -> None:
    """Calibrated on one half of the photographs, it finds what it found on the other half."""
    folder = shared_data / "deimv2_femto_qr"
    path = folder / "deimv2_femto_416.onnx"
    photographs = list_images(folder / "images")
    collect(path, photographs[::2][:4], SPEC).write(tmp_path / "stats.json")
    share = export_qdq(path, tmp_path / "stats.json", tmp_path / "int8.onnx")
    assert (share.nodes, share.convolutions) == (43, 49)
    assert share.int8_macs / share.macs == pytest.approx(0.879, abs=0.001)
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * path.stat().st_size
    reference = open_session(path, SPEC, threads=1)
    quantized = open_session(tmp_path / "int8.onnx", threads=1, exact=True)
    for photograph in photographs[1::2][:4]:
        (box, score), (found, found_score) = (
            _best(session, photograph) for session in (reference, quantized)
        )
        assert np.abs(found - box).max() * SIDE_PX < 5
        assert found_score == pytest.approx(score, abs=0.12)


def test_openvino_gets_no_plugin_of_tensorrt(
    tiny_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    path, stats, output = tiny_onnx(), tmp_path / "stats.json", tmp_path / "int8.onnx"
    model = onnx.load(path)
    model.graph.node[0].op_type, model.graph.node[0].domain = PLUGIN, DOMAIN
    define_plugin(model)
    onnx.save(model, path)
    with pytest.raises(UsageError, match=rf"{PLUGIN}, which OpenVINO does not run; .*gather"):
        export_qdq(path, stats, output, target="openvino")


def _best(session: Session, photograph: Path) -> tuple[NDArray[np.float32], float]:
    Preprocessor(session.spec)(read_image(photograph), session.images[0])
    logits, boxes = session.infer()
    best = int(logits[0, :, 0].argmax())
    return boxes[0, best].copy(), float(1 / (1 + np.exp(-logits[0, best, 0])))
