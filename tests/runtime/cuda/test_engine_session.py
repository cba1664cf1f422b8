"""What a GPU would only punish in the field: the session on a fake of CUDA and TensorRT."""

import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.nvrtc import CompileError
from edgedetr.runtime.errors import BackendError, DeviceLostError
from edgedetr.runtime.spec import ModelSpec

WHITE, BLACK = 4.0, -4.0  # the first logit


def refused(error):
    """Return a method that raises an error."""

    def method(*_):
        raise error("refused")

    return method


@pytest.mark.parametrize(
    ("library", "version"),
    [("tensorrt", "10.3.0"), ("tensorrt", "11.0.1"), ("tensorrt_rtx", "1.7.1.116")],
)
def test_an_engine_answers_through_a_graph(opened, gpu, library, version, answer):
    session = opened(library=library, version=version)
    before = gpu.launches
    assert [answer(session, v) for v in (1, 0, 1)] == [WHITE, BLACK, WHITE]
    assert gpu.launches == before + 3
    assert session.runs_on == f"{library} {version}, Orin (fake)"
    assert session.spec == ModelSpec((8, 16), ("Car", "Pedestrian"))


def test_closing_frees_everything_and_twice_is_safe(opened, gpu):
    session = opened()
    assert gpu.pinned_bytes > 0
    session.close()
    session.close()
    gpu.check_clean()
    for use in (session.infer, lambda: session.images):
        with pytest.raises(ValueError, match="the session is closed"):
            use()


def test_arrays_outlive_the_session(opened, gpu):
    session = opened()
    images, (logits, boxes) = session.images, session.infer()
    images[...] = 1
    session.close()
    images[...] = 2
    assert logits.shape == (1, 2, 2)
    assert boxes[0, 0, 0] == 0.5
    assert gpu.pinned_bytes == images.nbytes + logits.nbytes + boxes.nbytes


def test_a_refused_enqueue_loses_one_frame_and_the_next_is_right(opened, gpu, answer):
    gpu.failing["cuStreamBeginCapture_v2"] = 801
    session = opened(faults={"refuse": {4}})  # after three runs to warm up
    gpu.failing.clear()
    with pytest.raises(BackendError, match=r"tiny.engine did not run: .*illegal memory access"):
        answer(session, 1)
    assert answer(session, 1) == WHITE


def test_a_refused_enqueue_at_the_warm_up_leaves_nothing_behind(opened, gpu):
    with pytest.raises(BackendError, match="did not run"):
        opened(faults={"refuse": {1}})
    gpu.check_clean()


def test_a_refused_address_leaves_nothing_behind(opened, gpu):
    with pytest.raises(BackendError, match="the address of boxes was refused: invalid tensor"):
        opened(faults={"refuse_address": "boxes"})
    gpu.check_clean()


def test_a_lost_device_ends_the_process_and_close_still_works(opened, gpu):
    session = opened()
    gpu.is_lost = True
    with pytest.raises(DeviceLostError, match=r"failed for good: .* start the process") as lost:
        session.infer()
    assert lost.value.exit_code == 3
    session.close()


def test_a_failed_copy_loses_one_frame(opened, monkeypatch, answer):
    session = opened()
    with monkeypatch.context() as broken:
        broken.setattr(Buffer, "upload", refused(session._drv.LogicError))
        with pytest.raises(BackendError, match="the GPU failed: refused"):
            answer(session, 1)
    assert answer(session, 1) == WHITE


@pytest.mark.parametrize("free", [0, 2000, 1537])
def test_too_little_memory_is_named_and_leaves_nothing_behind(opened, gpu, free):
    gpu.free_bytes = free
    with pytest.raises(BackendError, match=r"not enough memory on the GPU|out of memory"):
        opened(context_bytes=1000)
    gpu.check_clean()


def test_a_session_is_opened_run_and_closed_on_different_threads(opened, gpu, answer):
    session = opened()
    answers: list[float] = []

    def work():
        answers.append(answer(session, 1))

    for target in (work, work, session.close):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert answers == [WHITE, WHITE]
    gpu.check_clean()


def test_a_session_outlives_the_thread_that_opened_it(opened, gpu, answer):
    sessions = []
    thread = threading.Thread(target=lambda: sessions.append(opened()))
    thread.start()
    thread.join()
    session = sessions.pop()
    assert answer(session, 1) == WHITE
    session.feed(np.zeros((20, 40, 3), np.uint8))
    session.close()
    gpu.check_clean()


def test_threads_take_turns_in_one_session_and_do_not_in_two(opened, gpu, answer):
    sessions = [opened(), opened()]
    wrong: list[float] = []

    def work(session, value, wanted):
        for _ in range(100):
            with locks[id(session)]:
                found = answer(session, value)
            if found != wanted:
                wrong.append(found)

    locks = {id(s): threading.Lock() for s in sessions}
    jobs = [(s, v, w) for s in sessions for v, w in ((1, WHITE), (0, BLACK))]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not gpu.misuses


def test_without_nvrtc_frames_are_preprocessed_on_the_cpu(opened, monkeypatch, answer):
    def fail(*_):
        raise CompileError("NVRTC is not installed")

    monkeypatch.setattr("edgedetr.runtime.cuda.frame_kernel.compile_cuda", fail)
    session = opened()
    assert session.feed is None
    assert "frames are preprocessed on the CPU: NVRTC is not installed" in session.runs_on
    assert answer(session, 1) == WHITE


def test_a_kernel_that_the_driver_refuses_leaves_frames_to_the_cpu(opened, gpu, answer):
    gpu.refuses_modules = True
    session = opened()
    assert session.feed is None
    assert "on the CPU: cuModuleLoadDataEx failed: no kernel image" in session.runs_on
    assert answer(session, 1) == WHITE


def test_a_kernel_that_is_wrong_leaves_frames_to_the_cpu(opened, gpu, kernels, answer):
    gpu.kernels = SimpleNamespace(
        launch_resize=kernels.launch_resize, launch_resize_into_input=lambda *_: None
    )
    session = opened()
    assert session.feed is None
    assert re.search(r"preprocesses a frame of \d+x\d+ otherwise than the CPU", session.runs_on)
    assert answer(session, 1) == WHITE


def test_an_engine_with_a_plugin_is_loaded(opened, answer):
    assert answer(opened(plugin="ROIAlign_TRT"), 1) == WHITE
