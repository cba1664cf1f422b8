"""The frame kernel, CUDA graphs and buffers on a real GPU, with pycuda and without TensorRT."""

import threading

import numpy as np
import pytest

from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.context import PrimaryContext
from edgedetr.runtime.cuda.frame_kernel import FrameKernel, check_kernel
from edgedetr.runtime.cuda.graph import GraphError, record
from edgedetr.runtime.cuda.nvrtc import CompileError
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

pytestmark = pytest.mark.gpu

SPEC = ModelSpec((64, 96), ("Car",), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def network_input(drv):
    """The buffer that a network would read."""
    buffer = Buffer(drv, (1, 3, *SPEC.input_hw))
    yield buffer
    buffer.free()


@pytest.fixture
def written(network_input, stream):
    """Waits for the stream and returns the network's input."""

    def read():
        network_input.download(stream)
        stream.synchronize()
        return network_input.host

    return read


@pytest.fixture
def kernel(drv, device, network_input, stream):
    """The frame kernel, compiled for this GPU."""
    try:
        made = FrameKernel(drv, SPEC, network_input.address, stream, device.compute_capability)
    except CompileError as error:
        pytest.skip(str(error))
    yield made
    stream.synchronize()
    made.close()


@pytest.mark.parametrize(
    "hw", [(64, 96), (60, 90), (100, 150), (375, 1242), (360, 480), (192, 288), (1080, 1920)]
)
def test_the_kernel_writes_what_the_cpu_writes(kernel, written, hw):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    wanted = np.empty((3, *SPEC.input_hw), np.float32)
    assert kernel(image) == Preprocessor(SPEC)(image, wanted)
    np.testing.assert_array_equal(written()[0], wanted)


def test_the_check_at_the_start_passes(kernel, written):
    check_kernel(kernel, SPEC, written)


def test_frames_of_changing_size_are_right(kernel, written, stream):
    for size in (10, 300, 20, 700):
        image = np.random.default_rng(size).integers(0, 256, (size, 2 * size, 3), np.uint8)
        wanted = np.empty((3, *SPEC.input_hw), np.float32)
        Preprocessor(SPEC)(image, wanted)
        kernel(image)
        np.testing.assert_array_equal(written()[0], wanted)
        stream.synchronize()


def test_a_graph_does_what_was_recorded(drv, stream):
    there, back = Buffer(drv, (1000,)), Buffer(drv, (1000,))

    def work():
        there.upload(stream)
        drv.memcpy_dtoh_async(back.host, there.address, stream)

    work()
    stream.synchronize()
    graph = record(stream.handle, work)
    for value in (3, 4):
        there.host[...] = value
        graph.launch(stream.handle)
        stream.synchronize()
        assert (back.host == value).all()
    graph.close()
    for buffer in (there, back):
        buffer.free()


def test_what_allocates_is_not_recorded_and_the_stream_is_usable_again(drv, stream):
    buffer = Buffer(drv, (10,))
    with pytest.raises(GraphError):
        record(stream.handle, lambda: drv.mem_alloc(1 << 20))
    buffer.host[...] = 1
    buffer.upload(stream)
    stream.synchronize()
    buffer.download(stream)
    stream.synchronize()
    assert (buffer.host == 1).all()
    buffer.free()


def test_a_kernel_is_recorded(kernel, written, stream):
    images = [np.full((64, 96, 3), value, np.uint8) for value in (0, 255)]
    kernel(images[0])
    stream.synchronize()
    graph = record(stream.handle, lambda: kernel(images[1]))
    dark = written().copy()
    graph.launch(stream.handle)
    assert (written() > dark).all()
    graph.close()


def test_memory_is_given_back(drv, stream):
    free = []
    for _ in range(4):
        buffers = [Buffer(drv, (1 << 20,)) for _ in range(8)]
        for buffer in buffers:
            buffer.upload(stream)
        stream.synchronize()
        for buffer in buffers:
            buffer.free()
        free.append(drv.mem_get_info()[0])
    assert free[0] - free[-1] < 1 << 20


def test_too_much_memory_is_an_error_of_its_own(drv):
    total = drv.mem_get_info()[1]
    with pytest.raises(drv.MemoryError):
        drv.mem_alloc(2 * total)


@pytest.mark.usefixtures("stream")
def test_threads_push_the_context_for_themselves(drv):
    found = []

    def work():
        with PrimaryContext(drv):
            buffer = Buffer(drv, (10,))
            found.append(buffer.address)
            buffer.free()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
