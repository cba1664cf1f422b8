"""The graph that measures clipping."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

from edgedetr.runtime import ModelSpec
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health.clipping import ClippingProbe


@pytest.mark.parametrize(("size", "gain"), [((8, 16), 0.0), ((9, 16), 0.0), ((8, 16), 9.0)])
def test_a_clipping_graph_is_tried_before_the_stream(onnx_model, tmp_path, size, gain):
    model = onnx_model(
        [
            ("ReduceMean", "pool", ["images"], "mean", {"axes": [0, 1, 2, 3], "keepdims": 0}),
            ("Add", "add", ["mean", "gain"], "clipped_share", {}),
        ],
        {"gain": gain},
        inputs={"images": (1, 3, *size)},
        outputs=["clipped_share"],
        spec=ModelSpec((8, 16), ("Car",)),
    )
    path = tmp_path / "c.onnx"
    path.write_bytes(model.SerializeToString())
    with ExitStack() as stack:
        if size != (8, 16):
            stack.enter_context(pytest.raises(ArtifactError, match="cannot measure a blank"))
        elif gain:
            stack.enter_context(pytest.raises(ArtifactError, match=r"wanted a share in \[0, 1\]"))
        assert ClippingProbe(path)(np.zeros((8, 16, 3), np.uint8)) == 0
