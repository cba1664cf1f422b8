"""What TensorRT for RTX shares with TensorRT, and what it does not take of it."""

import pytest

from edgedetr.runtime.backends import tensorrt, tensorrt_rtx
from edgedetr.runtime.errors import ArtifactError


def test_rtx_and_tensorrt_share_all_but_the_name():
    assert tensorrt.SUFFIXES == tensorrt_rtx.SUFFIXES == (".engine",)


def test_an_engine_of_tensorrt_is_refused(install_trt, tiny_engine):
    install_trt("tensorrt_rtx", "1.7.1")
    with pytest.raises(ArtifactError, match=r"with TensorRT 10\.3\.0 .* has TensorRT-RTX 1\.7\.1"):
        tensorrt_rtx.open_session(tiny_engine(builder="tensorrt==10.3.0"))
