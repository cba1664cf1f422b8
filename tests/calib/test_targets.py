"""The types to which targets round."""

from __future__ import annotations

from edgedetr.calib.targets import TARGETS, scheme_of


def test_only_tensorrt_rounds_symmetrically() -> None:
    assert {t: scheme_of(t) for t in TARGETS} == {
        "tensorrt": "int8",
        "openvino": "uint8_inputs",
        "onnxruntime": "uint8",
    }
