"""The GPU as the driver's own library describes it."""

import ctypes

import pytest

from edgedetr.runtime.cuda.device import CudaDevice, find_device


@pytest.mark.usefixtures("orin")
def test_the_driver_describes_its_gpu():
    assert find_device() == CudaDevice("Orin", "8.7")


@pytest.mark.parametrize(("capability", "target"), [("8.7", "sm_87"), ("12.0", "sm_120")])
def test_a_manifest_names_it_by_its_compute_capability(capability, target):
    assert CudaDevice("x", capability).target == target


@pytest.mark.parametrize(
    "failing", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"]
)
def test_a_driver_that_fails_is_no_gpu(fake_cuda, monkeypatch, failing):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake_cuda(failing=failing))
    assert find_device() is None


def test_no_driver_is_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert find_device() is None
