"""Real pycuda on the driver whose device is the CPU: what it notices, and the session on it."""

import gc
import sys
import threading

import numpy as np
import pytest

from edgedetr.runtime.cuda import frame_kernel
from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.context import PrimaryContext
from edgedetr.runtime.cuda.graph import GraphError, record
from edgedetr.runtime.cuda.nvrtc import CompileError, compile_cuda
from edgedetr.runtime.errors import DeviceLostError
from edgedetr.runtime.spec import ModelSpec

fake_libcuda = sys.modules["fake_libcuda"]
NON_BLOCKING = 1
ILLEGAL_ADDRESS = 700


@pytest.fixture
def device(drv, libcuda, kernels, monkeypatch):
    """A GPU whose context is current, whose misuses are wanted."""
    gpu = fake_libcuda.DriverGpu(libcuda)
    gpu.kernels = kernels
    monkeypatch.setattr("edgedetr.runtime.cuda.context._retained", {})
    monkeypatch.setattr(frame_kernel, "compile_cuda", lambda *_: b"\x7fELF")
    with PrimaryContext(drv):
        yield gpu
        gc.collect()
    libcuda.fake_unplug()


@pytest.fixture
def stream(drv, device):  # noqa: ARG001 - the context it is made in
    made = drv.Stream(NON_BLOCKING)
    yield made
    made.synchronize()


def read(buffer, stream):
    """What lies on the device, for who waits for the stream alone."""
    buffer.download(stream)
    stream.synchronize()
    return buffer.host.copy()


def test_a_buffer_goes_there_and_back(drv, stream):
    buffer = Buffer(drv, (3,))
    buffer.host[...] = 1, 2, 3
    buffer.upload(stream)
    stream.synchronize()
    buffer.host[...] = 0
    assert read(buffer, stream).tolist() == [1, 2, 3]


def test_work_is_done_when_somebody_waits(drv, stream):
    buffer = Buffer(drv, (3,))
    buffer.upload(stream)
    buffer.host[...] = 7  # too early: the copy has not read it
    stream.synchronize()
    assert read(buffer, stream).tolist() == [7, 7, 7]


def test_an_answer_is_no_number_before_somebody_waits(drv, stream):
    buffer = Buffer(drv, (3,))
    buffer.download(stream)
    assert np.isnan(buffer.host).all()
    stream.synchronize()


def test_pageable_memory_arrives_late_for_a_non_blocking_stream(drv, stream):
    buffer = Buffer(drv, (3,))
    drv.memcpy_htod(buffer.address, np.arange(3, dtype=np.float32))
    assert np.isnan(read(buffer, stream)).all()
    drv.Context.synchronize()
    assert read(buffer, stream).tolist() == [0, 1, 2]


def test_an_asynchronous_copy_of_pageable_memory_is_a_misuse(drv, device, stream):
    buffer = Buffer(drv, (3,))
    with pytest.raises(drv.LogicError, match="invalid argument"):
        drv.memcpy_htod_async(buffer.address, np.zeros(3, np.float32), stream)
    assert device.misuses == ["asynchronous copy of memory that is not pinned"]


def test_a_recorded_copy_is_done_when_the_graph_is_launched(drv, stream):
    buffer = Buffer(drv, (3,))
    graph = record(stream.handle, lambda: buffer.upload(stream))
    buffer.host[...] = 5
    assert np.isnan(read(buffer, stream)).all()
    buffer.host[...] = 5
    graph.launch(stream.handle)
    stream.synchronize()
    assert read(buffer, stream).tolist() == [5, 5, 5]
    graph.close()


@pytest.mark.parametrize("forbidden", ["mem_alloc", "synchronize", "memcpy_htod"])
def test_who_records_may_not_allocate_or_wait(drv, device, stream, forbidden):
    buffer = Buffer(drv, (3,))
    work = {
        "mem_alloc": lambda: drv.mem_alloc(4),
        "synchronize": stream.synchronize,
        "memcpy_htod": lambda: drv.memcpy_htod(buffer.address, np.zeros(3, np.float32)),
    }[forbidden]
    with pytest.raises(GraphError, match="not permitted when stream is capturing"):
        record(stream.handle, work)
    assert not device.misuses
    stream.synchronize()  # it is usable again


def test_another_thread_may_allocate_meanwhile(drv, stream):
    made = []

    def work():
        with PrimaryContext(drv):
            made.append(Buffer(drv, (3,)))
            made[0].free()

    def run():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    record(stream.handle, run).close()
    assert made


def test_a_call_on_a_thread_without_a_context_is_a_misuse(drv, device):
    raised = []

    def work():
        try:
            drv.mem_alloc(4)
        except drv.LogicError as error:
            raised.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == ["cuMemAlloc failed: invalid device context"]
    assert device.misuses == ["cuMemAlloc_v2 without a current context on this thread"]


def test_a_copy_from_freed_memory_is_a_misuse(drv, device, stream):
    buffer = Buffer(drv, (3,))
    host = buffer.host
    buffer.free()
    with pytest.raises(drv.LogicError):
        drv.memcpy_dtoh_async(host, buffer.address, stream)
    assert "use of device memory" in device.misuses[0]
    assert "after it was freed" in device.misuses[0]


def test_a_kernel_on_freed_memory_loses_the_device(drv, device, stream):
    spec = ModelSpec((8, 16), ("Car",))
    out = Buffer(drv, (1, 3, 8, 16))
    kernel = frame_kernel.FrameKernel(drv, spec, out.address, stream, "8.7")
    kernel(np.zeros((8, 16, 3), np.uint8))
    out.free()
    with pytest.raises(drv.LaunchError, match="unspecified launch failure"):
        stream.synchronize()
    assert "after it was freed" in device.misuses[0]
    for call in (stream.synchronize, lambda: drv.mem_alloc(4), drv.Context.synchronize):
        with pytest.raises(drv.LaunchError):
            call()
    device.lose(0)


def test_memory_runs_out(drv, device):
    device.free_bytes = 10
    with pytest.raises(drv.MemoryError, match="cuMemAlloc failed: out of memory"):
        Buffer(drv, (3,))
    assert device.pinned_bytes == 0


def test_what_is_left_is_named(drv, device, stream):
    buffer = Buffer(drv, (3,))
    with pytest.raises(AssertionError, match=r"'device memory': 1, 'pinned bytes': 12, 'streams'"):
        device.check_clean()
    buffer.free()
    assert stream


def test_a_function_that_the_driver_lacks_is_named(drv, device):
    with pytest.raises(drv.Error, match="cuEventCreate failed"):
        drv.Event()
    assert device.misuses == ["cuEventCreate"]


@pytest.mark.usefixtures("device")
def test_nvrtc_compiles_beside_it():
    try:
        assert compile_cuda(frame_kernel.kernel_source(), "8.7")[:4] == b"\x7fELF"
    except CompileError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("status", [ILLEGAL_ADDRESS, 719])
def test_an_error_that_stays_ends_the_process(drv, opened, gpu, status, answer):  # noqa: ARG001
    session = opened()
    assert answer(session, 1) == 4
    gpu.lose(status)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="the GPU failed for good"):
            session.infer()
    with pytest.raises(DeviceLostError):
        session.feed(np.zeros((8, 16, 3), np.uint8))
    session.close()
