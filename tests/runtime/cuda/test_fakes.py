"""The fakes themselves: each misuse that they are there to find is found."""

import gc
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

fake_cuda, fake_trt = sys.modules["fake_cuda"], sys.modules["fake_trt"]
Misuse = fake_cuda.Misuse


@pytest.fixture
def device():
    """A fake GPU with its context pushed, whose misuses are wanted."""
    gpu = fake_cuda.FakeGpu()
    gpu.driver.init()
    gpu.driver.Device(0).retain_primary_context().push()
    return gpu


@pytest.fixture
def running(device):
    """An execution context, a stream, and buffers by name."""
    trt = fake_trt.fake_trt(device)

    class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
        def log(self, severity, message):
            pass

    engine = trt.Runtime(Logger()).deserialize_cuda_engine(fake_trt.engine_bytes())
    context = engine.create_execution_context()
    buffers = {n: device.driver.mem_alloc(4 * 384) for n in ("images", "logits", "boxes")}
    for name, buffer in buffers.items():
        context.set_tensor_address(name, int(buffer))
    return SimpleNamespace(context=context, stream=device.driver.Stream(), buffers=buffers)


def on_another_thread(work):
    raised = []

    def run():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised


def test_a_call_on_a_thread_without_a_context(device):
    (error,) = on_another_thread(lambda: device.driver.mem_alloc(4))
    assert "mem_alloc without a current context" in str(error)
    with pytest.raises(AssertionError, match="misuses"):
        device.check_clean()


def test_a_pop_too_many(device):
    device.driver.Context.pop()
    with pytest.raises(Misuse, match="pop without a push"):
        device.driver.Context.pop()


def test_a_push_too_many(device):
    with pytest.raises(AssertionError, match="pushed contexts"):
        device.check_clean()


def test_device_memory_used_after_it_was_freed(running):
    context, stream, buffers = running.context, running.stream, running.buffers
    buffers["logits"].free()
    with pytest.raises(Misuse, match="after it was freed"):
        context.execute_async_v3(stream.handle)


def test_device_memory_freed_before_its_work_is_done(running):
    context, stream, buffers = running.context, running.stream, running.buffers
    assert context.execute_async_v3(stream.handle)
    buffers["logits"].free()
    with pytest.raises(Misuse, match="after it was freed"):
        stream.synchronize()


def test_device_memory_freed_twice(running):
    running.buffers["logits"].free()
    with pytest.raises(Misuse, match="freed twice"):
        running.buffers["logits"].free()


def test_memory_that_is_too_small(running, device):
    context, stream = running.context, running.stream
    context.set_tensor_address("images", int(device.driver.mem_alloc(8)))
    with pytest.raises(Misuse, match="where 8 were allocated"):
        context.execute_async_v3(stream.handle)


def test_an_enqueue_without_an_address(running):
    context, stream = running.context, running.stream
    del context._addresses["boxes"]
    with pytest.raises(Misuse, match=r"without an address for \['boxes'\]"):
        context.execute_async_v3(stream.handle)


def test_an_execution_context_on_two_streams_at_once(running, device):
    context, stream = running.context, running.stream
    other = device.driver.Stream()
    context.execute_async_v3(stream.handle)
    with pytest.raises(Misuse, match="on two threads or streams"):
        context.execute_async_v3(other.handle)
    stream.synchronize()


def test_an_execution_context_freed_before_its_work_is_done(running):
    running.context.execute_async_v3(running.stream.handle)
    running.context = None
    gc.collect()
    with pytest.raises(Misuse, match="run of an execution context after it was freed"):
        running.stream.synchronize()


def test_a_stream_used_after_it_was_freed(running):
    handle = running.stream.handle
    running.stream = None
    with pytest.raises(Misuse, match="no stream"):
        running.context.execute_async_v3(handle)


def test_an_answer_read_before_synchronising(running, device):
    stream, buffers = running.stream, running.buffers
    host = device.driver.pagelocked_empty((4,), np.float32)
    host[...] = 1
    device.driver.memcpy_dtoh_async(host, buffers["boxes"], stream)
    assert np.isnan(host).all()
    stream.synchronize()


def test_an_asynchronous_copy_of_pageable_memory(running, device):
    with pytest.raises(Misuse, match="not pinned"):
        device.driver.memcpy_htod_async(running.buffers["boxes"], np.zeros(4), running.stream)


def test_pinned_memory_freed_before_its_copy(running, device):
    stream, buffers = running.stream, running.buffers
    host = device.driver.pagelocked_empty((4,), np.float32)
    device.driver.memcpy_htod_async(buffers["boxes"], host, stream)
    del host
    gc.collect()
    with pytest.raises(Misuse, match="copy of pinned memory after it was freed"):
        stream.synchronize()


def test_a_replay_after_the_addresses_were_changed(running, device):
    context, stream = running.context, running.stream
    assert context.execute_async_v3(stream.handle)
    stream.synchronize()
    stream.recorded, stream.recorder = [], threading.get_ident()
    assert context.execute_async_v3(stream.handle)
    (work,), stream.recorded = stream.recorded, None
    context.set_tensor_address("logits", int(device.driver.mem_alloc(4 * 384)))
    stream.add(work)
    with pytest.raises(Misuse, match="replays addresses that were changed"):
        stream.synchronize()


def test_a_first_run_cannot_be_recorded(running):
    context, stream = running.context, running.stream
    stream.recorded, stream.recorder = [], threading.get_ident()
    assert not context.execute_async_v3(stream.handle)
    assert stream.is_invalid
    stream.recorded = None


def test_what_is_left_is_named(running, device):
    device.driver.Context.pop()
    with pytest.raises(AssertionError, match=r"device memory.*streams.*objects of libraries"):
        device.check_clean()
    assert running


def test_memory_dropped_on_a_thread_without_a_context(device):
    kept = [device.driver.pagelocked_empty((4,), np.float32)]
    assert not on_another_thread(kept.clear)
    assert "pinned memory dropped on another thread" in device.misuses[0]
