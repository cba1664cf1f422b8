"""A GPU, or a skip that says what is missing."""

from importlib.util import find_spec

import pytest

from edgedetr.runtime.cuda.device import find_device


@pytest.fixture(scope="session")
def device():
    """The GPU of this machine, with pycuda to use it."""
    found = find_device()
    if found is None:
        pytest.skip("no GPU with a CUDA driver")
    if find_spec("pycuda") is None:
        pytest.skip("pycuda is not installed")
    return found


@pytest.fixture
def drv(device):
    """pycuda.driver, with the GPU's context current."""
    import pycuda.driver

    from edgedetr.runtime.cuda.context import PrimaryContext

    with PrimaryContext(pycuda.driver) as context:
        assert context.compute_capability == device.compute_capability
        yield pycuda.driver


@pytest.fixture
def stream(drv):
    """A stream that does not wait for the default one, as the session's."""
    made = drv.Stream(1)
    yield made
    made.synchronize()
