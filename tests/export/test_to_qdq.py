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
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.runtime.session import Session

SIDE_PX = 416
SPEC = ModelSpec(
    (SIDE_PX, SIDE_PX), ("QR code",), resize="stretch", logits_name="2166", boxes_name="2167"
)


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
