"""The clipping graph that the command writes measures frames, and other models are refused."""

import numpy as np

from edgedetr.runtime.health.clipping import ClippingProbe


def test_the_command_writes_a_graph_that_measures_frames(edgedetr, int8):
    status, out, error = edgedetr("export", "clipping", int8)
    written = int8.with_name("m.int8.clipping.onnx")
    assert (status, error) == (0, "")
    assert out.startswith(f"{written}: ")
    assert ClippingProbe(written)(np.zeros((8, 16, 3), np.uint8)) == 0


def test_a_float_model_and_a_wrong_name_are_one_line(edgedetr, fp32, int8, tmp_path):
    before = sorted(tmp_path.iterdir())
    for arguments, status, message in (
        ((fp32,), 1, "quantizes no activation"),
        ((int8, "-o", tmp_path / "c.bin"), 2, "c.bin is not the name of an ONNX file"),
        ((int8, "-o", int8), 2, "is an input of the same command"),
    ):
        found, out, error = edgedetr("export", "clipping", *arguments)
        assert (found, out, error.count("\n")) == (status, "", 1)
        assert message in error
    assert sorted(tmp_path.iterdir()) == before
