"""The driver through pycuda, and what an engine answers to an image of one value."""

import pytest


@pytest.fixture
def answer():
    """Runs a session on an image of one value; returns the first logit."""

    def run(session, value):
        session.images[...] = value
        logits, _ = session.infer()
        return float(logits[0, 0, 0])

    return run


@pytest.fixture
def drv(libcuda):
    """pycuda.driver, or a skip."""
    if libcuda is None:
        pytest.skip("pycuda is not installed (make pycuda), or a real driver is loaded already")
    import pycuda.driver

    return pycuda.driver
