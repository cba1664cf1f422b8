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
