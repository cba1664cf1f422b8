"""Host and device memory in pairs, on a fake of the driver that notices every misuse."""

import gc
import sys

import numpy as np
import pytest

from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.context import PrimaryContext

fake_cuda = sys.modules["fake_cuda"]


@pytest.fixture
def device(monkeypatch):
    """A fake GPU whose context is current, and which must be left as it was found."""
    monkeypatch.setattr("edgedetr.runtime.cuda.context._retained", {})
    gpu = fake_cuda.FakeGpu()
    with PrimaryContext(gpu.driver):
        yield gpu
    gpu.check_clean()


def test_a_buffer_goes_there_and_back(device):
    buffer, stream = Buffer(device.driver, (3,)), device.driver.Stream()
    assert buffer.host.tolist() == [0, 0, 0]
    buffer.host[...] = 1, 2, 3
    buffer.upload(stream)
    stream.synchronize()
    buffer.host[...] = 0
    buffer.download(stream)
    stream.synchronize()
    assert buffer.host.tolist() == [1, 2, 3]
    buffer.free()


def test_its_type_and_size_are_those_that_were_wanted(device):
    buffer = Buffer(device.driver, (2, 3), np.uint8)
    assert (buffer.host.shape, buffer.host.dtype.name) == ((2, 3), "uint8")
    assert device.block(buffer.address, 6).size == 6
    assert device.pinned_bytes == 6
    buffer.free()


def test_where_memory_runs_out_the_host_keeps_none(device):
    device.free_bytes = 10
    with pytest.raises(device.driver.MemoryError, match="out of memory"):
        Buffer(device.driver, (3,))
    gc.collect()
    assert device.pinned_bytes == 0


def test_what_is_freed_stays_readable_for_whoever_holds_it(device):
    buffer = Buffer(device.driver, (3,))
    held = buffer.host
    buffer.free()
    assert not hasattr(buffer, "host")
    assert (held.tolist(), device.pinned_bytes) == ([0, 0, 0], 12)
