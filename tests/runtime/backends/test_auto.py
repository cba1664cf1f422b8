"""How a backend is chosen; times are made up, so that the choice is certain."""

import logging

import numpy as np
import pytest

from edgedetr.runtime import Detector, backend_lookup
from edgedetr.runtime.backend_lookup import backend, suited_backend
from edgedetr.runtime.backends import auto, openvino
from edgedetr.runtime.errors import ArtifactError, BackendError, UsageError


@pytest.fixture
def times(monkeypatch):
    """What the backends take, in milliseconds, by name; to be filled in."""
    made: dict[str, float] = {}
    monkeypatch.setattr(auto, "measure", lambda sessions: {name: made[name] for name in sessions})
    return made


@pytest.fixture
def hide(monkeypatch):
    """Make libraries look as if they were not installed."""

    def hide_these(*hidden):
        def find(name):
            return None if name in hidden else object()

        monkeypatch.setattr(auto, "find_spec", find)
        monkeypatch.setattr(backend_lookup, "find_spec", find)

    return hide_these


@pytest.mark.parametrize(
    ("onnxruntime_ms", "openvino_ms", "chosen"),
    [
        (10, 9.4, "openvino"),
        (10, 9.6, "onnxruntime"),
        (10, 10, "onnxruntime"),
        (5, 9, "onnxruntime"),
    ],
)
def test_openvino_is_chosen_where_it_is_clearly_faster(
    tiny_onnx, times, onnxruntime_ms, openvino_ms, chosen, caplog
):
    caplog.set_level(logging.INFO)
    times.update(onnxruntime=onnxruntime_ms, openvino=openvino_ms)
    session = auto.open_session(tiny_onnx())
    figures = f"chosen of onnxruntime {onnxruntime_ms:.2f} ms, openvino {openvino_ms:.2f} ms"
    assert session.runs_on.startswith(chosen)
    assert session.runs_on.endswith(figures)
    assert f"{chosen} {figures}" in caplog.text


def test_all_but_the_chosen_are_closed(tiny_onnx, times, monkeypatch):
    times.update(onnxruntime=9, openvino=1)
    opened = []
    for name in times:
        module = backend(name)
        original = module.open_session

        def open_session(path, spec=None, original=original, **how):
            opened.append(original(path, spec, **how))
            return opened[-1]

        monkeypatch.setattr(module, "open_session", open_session)
    session = auto.open_session(tiny_onnx())
    first, second = opened
    assert session is second
    with pytest.raises(ValueError, match="the session is closed"):
        first.infer()


@pytest.mark.parametrize("hidden", ["onnxruntime", "openvino"])
def test_where_one_library_is_installed_nothing_is_measured(tiny_onnx, times, hide, hidden):
    hide(hidden)
    session = auto.open_session(tiny_onnx())
    assert not times
    assert not session.runs_on.startswith(hidden)


def test_where_none_is_installed_it_says_what_to_install(tiny_onnx, hide):
    hide("onnxruntime", "openvino")
    with pytest.raises(UsageError, match=r"no installed library runs .onnx files; pip install"):
        auto.open_session(tiny_onnx())


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(auto, "find_device", lambda: "a GPU")


@pytest.mark.usefixtures("a_gpu")
def test_the_gpu_takes_part_where_there_is_one(tiny_onnx, times, gpu_providers):
    times.update(onnxruntime=9, onnxruntime_cuda=1, openvino=5)
    assert "CUDAExecutionProvider" in auto.open_session(tiny_onnx()).runs_on
    assert ["CUDAExecutionProvider", "CPUExecutionProvider"] in gpu_providers.asked


@pytest.mark.usefixtures("a_gpu")
def test_a_gpu_that_does_not_start_is_left_out(tiny_onnx, times, gpu_providers, caplog):
    gpu_providers.starting = ["CPUExecutionProvider"]
    times.update(onnxruntime=9, openvino=10)
    assert "onnxruntime_cuda" not in auto.open_session(tiny_onnx()).runs_on
    assert (
        "backend onnxruntime_cuda is not available: CUDAExecutionProvider does not start"
        in caplog.text
    )


def test_a_backend_that_answers_otherwise_is_left_out(tiny_onnx, times, monkeypatch, caplog):
    times.update(onnxruntime=9, openvino=1)
    original = openvino.OpenVinoSession.infer

    def infer(self):
        logits, boxes = original(self)
        boxes[...] = boxes[..., ::-1] / 2
        return logits, boxes

    monkeypatch.setattr(openvino.OpenVinoSession, "infer", infer)
    assert auto.open_session(tiny_onnx()).runs_on.startswith("onnxruntime")
    assert "openvino is left out: it misses" in caplog.text


def test_a_backend_that_cannot_load_it_is_left_out(tiny_onnx, times, monkeypatch, caplog):
    def refuse(path, _, **_how):
        raise ArtifactError(f"{path} has an operator that it lacks")

    monkeypatch.setattr(openvino, "open_session", refuse)
    assert auto.open_session(tiny_onnx()).runs_on.startswith("onnxruntime")
    assert "does not run with openvino: " in caplog.text
    assert not times


def test_a_backend_that_fails_while_measured_leaves_nothing_open(tiny_onnx, monkeypatch):
    closed: list[object] = []

    def close(self):
        closed.append(self)

    monkeypatch.setattr(openvino.OpenVinoSession, "close", close)

    def fail(_):
        raise BackendError("lost")

    monkeypatch.setattr(auto, "measure", fail)
    with pytest.raises(BackendError, match="lost"):
        auto.open_session(tiny_onnx())
    assert closed


def test_measuring_counts_runs_and_keeps_to_its_budget(tiny_onnx, monkeypatch):
    session = backend("onnxruntime").open_session(tiny_onnx())
    runs: list[int] = []
    original = session.infer

    def infer():
        runs.append(1)
        return original()

    monkeypatch.setattr(session, "infer", infer)
    assert 0 < auto.measure({"one": session})["one"] < 1000
    assert len(runs) == 4 * (2 + 5)
    runs.clear()
    monkeypatch.setattr(auto, "BUDGET_S", 0)
    assert auto.measure({"one": session})["one"] > 0
    assert len(runs) == 4


def test_an_engine_goes_to_the_library_that_built_it(install_trt, tiny_engine):
    install_trt("tensorrt_rtx", "1.7.1")
    path = tiny_engine(builder="tensorrt_rtx==1.7.1")
    assert suited_backend(path) == "tensorrt_rtx"
    session = auto.open_session(path)
    assert session.runs_on.startswith("tensorrt_rtx 1.7.1")
    session.close()


def test_a_detector_opens_an_engine_and_feeds_it_on_the_device(
    install_trt, tiny_engine, gpu, kernels
):
    from edgedetr.runtime import Frame

    gpu.kernels = kernels
    install_trt("tensorrt", "10.3.0")
    with Detector.open(tiny_engine()) as detector:
        white = detector.detect(Frame(np.full((20, 40, 3), 255, np.uint8)))
        black = detector.detect(Frame(np.zeros((20, 40, 3), np.uint8)))
        later = detector.submit(Frame(np.full((20, 40, 3), 255, np.uint8))).result()
    assert (len(white), len(black), len(later)) == (1, 0, 1)
    np.testing.assert_allclose(white.boxes, [[10, 5, 30, 15]], atol=1e-4)
    np.testing.assert_array_equal(later.boxes, white.boxes)


@pytest.mark.parametrize(
    ("int8_ms", "chosen", "said"),
    [
        (10.3, "m.onnx", "; m.int8.onnx is not worth it in onnxruntime"),
        (8.3, "m.int8.onnx", ""),  # a tie
        (4, "m.int8.onnx", ""),
    ],
)
def test_an_int8_file_that_is_no_faster_leaves_its_place(
    tiny_onnx, times, int8_ms, chosen, said, caplog
):
    times.update({"m.int8.onnx": int8_ms, "m.fp16.onnx": 10, "m.onnx": 8})
    path = tiny_onnx()
    sessions = {name: backend("onnxruntime").open_session(path) for name in times}
    assert auto.fastest_file(sessions) == chosen
    runs_on = sessions[chosen].runs_on
    assert said in runs_on
    assert ("0.78x the speed of m.onnx" in runs_on) == ("0.78x" in caplog.text) == bool(said)
    assert sessions[chosen].infer()
    for name in set(times) - {chosen}:
        with pytest.raises(ValueError, match="the session is closed"):
            sessions[name].infer()
