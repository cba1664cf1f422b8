"""NVRTC, where it is installed."""

import pytest

from edgedetr.runtime.cuda.frame_kernel import kernel_source
from edgedetr.runtime.cuda.nvrtc import CompileError, compile_cuda


@pytest.fixture
def nvrtc():
    try:
        compile_cuda("", "8.7")
    except CompileError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", ["8.7", "9.0", "11.0", "12.0"])
def test_nvrtc_compiles_the_kernels_for_orin_hopper_thor_and_blackwell(capability):
    assert compile_cuda(kernel_source(), capability)[:4] == b"\x7fELF"


@pytest.mark.usefixtures("nvrtc")
def test_nvrtc_names_what_is_wrong():
    with pytest.raises(CompileError, match=r"NVRTC stopped with .*undefined"):
        compile_cuda('extern "C" __global__ void f() { g(); }', "8.7")


@pytest.mark.usefixtures("nvrtc")
def test_nvrtc_names_a_gpu_that_it_does_not_know():
    with pytest.raises(CompileError, match="NVRTC stopped with"):
        compile_cuda(kernel_source(), "3.5")
