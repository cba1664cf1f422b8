"""Signals during a build, with fakes of TensorRT."""

import signal

import pytest

from edgedetr.export.to_engine import export_engine


@pytest.mark.parametrize("monitored", [True, False])
def test_ctrl_c_ends_a_build_and_writes_no_engine(tensorrt, model, tmp_path, edgedetr, monitored):
    """What a callback raises is lost in the library, which goes on."""
    tensorrt(interrupt=signal.SIGINT, monitored=monitored)
    before = signal.getsignal(signal.SIGINT)
    status, out, err = edgedetr("export", "engine", model(), "--backend", "tensorrt")
    assert (status, out, err.strip()) == (130, "", "edgedetr: stopped")
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.engine.log"}
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_a_build_as_it_ends_the_rest_of_the_command(tensorrt, model, tmp_path):
    tensorrt(interrupt=signal.SIGTERM)

    def end(number, _):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit, match="143"):
            export_engine(model(), tmp_path / "net.engine")
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.engine.log"}
