"""The primary context is current inside a block alone, retained once, and lost without a sound."""

import os
import subprocess
import sys

import pytest

from edgedetr.runtime.cuda.context import PrimaryContext

fake_cuda = sys.modules["fake_cuda"]


@pytest.fixture(autouse=True)
def nothing_retained(monkeypatch):
    """Leave no fake behind for other tests."""
    monkeypatch.setattr("edgedetr.runtime.cuda.context._retained", {})


def test_it_is_current_inside_the_block_alone():
    gpu = fake_cuda.FakeGpu()
    with PrimaryContext(gpu.driver) as context:
        gpu.need_context("work")
        with context:
            gpu.need_context("work inside")
        gpu.need_context("work behind")
    with pytest.raises(fake_cuda.Misuse, match="without a current context"):
        gpu.need_context("work")


def test_an_error_leaves_the_block_as_it_was():
    gpu = fake_cuda.FakeGpu()
    with pytest.raises(ValueError, match="odd"), PrimaryContext(gpu.driver):
        raise ValueError("odd")
    assert not any(gpu.stacks.values())


def test_the_device_is_described():
    context = PrimaryContext(fake_cuda.FakeGpu("Thor (fake)", (10, 1)).driver)
    assert (context.device_name, context.compute_capability) == ("Thor (fake)", "10.1")


def test_a_lost_device_does_not_work_and_the_block_still_ends():
    gpu = fake_cuda.FakeGpu()
    context = PrimaryContext(gpu.driver)
    assert context.works()
    gpu.is_lost = True
    assert not context.works()
    assert not any(gpu.stacks.values())


def test_it_is_retained_once_a_process():
    gpu, lost = fake_cuda.FakeGpu(), fake_cuda.FakeGpu()
    PrimaryContext(gpu.driver)
    gpu.is_lost = lost.is_lost = True  # from here on the driver retains none
    assert PrimaryContext(gpu.driver).device_name == "Orin (fake)"
    with pytest.raises(lost.driver.LogicError, match="no CUDA-capable device"):
        PrimaryContext(lost.driver)


EXIT = """
import ctypes, sys
ctypes.CDLL(sys.argv[1]).fake_plug(b"Orin", 8, 7, 1 << 20)
import pycuda.driver as drv
from edgedetr.runtime.cuda.context import PrimaryContext
from edgedetr.runtime.cuda.buffers import Buffer
{}
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("with PrimaryContext(drv): kept = Buffer(drv, (3,)); kept.free()", ""),
        ("with PrimaryContext(drv): kept = Buffer(drv, (3,))", ""),
        ("drv.init(); kept = drv.Device(0).retain_primary_context()", "cuCtxDetach failed"),
    ],
)
def test_a_process_ends_without_a_message(drv, libcuda_path, code, said):  # noqa: ARG001
    command = [sys.executable, "-c", EXIT.format(code), str(libcuda_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0
    assert said in done.stderr if said else done.stderr == ""
