"""The kernel's own source, compiled as C++ and run thread by thread, against the CPU's way."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from edgedetr.runtime.cuda.frame_kernel import BLOCK, kernel_arguments, kernel_source
from edgedetr.runtime.cuda.nvrtc import CompileError, compile_cuda
from edgedetr.runtime.preprocess import (
    Preprocessor,
    averages_areas,
    normalisation_tables,
    placement,
)
from edgedetr.runtime.spec import ModelSpec

IMAGENET = ModelSpec((8, 8), ("Car",), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def preprocess_with(kernels, image, spec):
    place = placement(image.shape[:2], spec)
    name, tables, factor = kernel_arguments(place)
    out = np.full((3, *spec.input_hw), np.nan, np.float32)
    levels = np.stack(normalisation_tables(spec))
    rows, columns = spec.input_hw
    grid = (-(-columns // BLOCK[0]), -(-rows // BLOCK[1]))
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (image, out, levels, *tables)]
    getattr(kernels, f"launch_{name}")(
        *grid,
        *BLOCK[:2],
        *pointers,
        *map(ctypes.c_float, factor),
        image.shape[1],
        *place.placed_hw,
        *place.input_hw,
        spec.pad_value,
    )
    return name, out


def wanted_by_the_cpu(image, spec):
    out = np.empty((3, *spec.input_hw), np.float32)
    Preprocessor(spec)(image, out)
    return out


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize(
    ("source_hw", "input_hw"),
    [
        ((37, 124), (38, 125)),  # grows a little
        ((37, 124), (96, 320)),  # grows much
        ((37, 124), (37, 124)),  # stays
        ((37, 124), (24, 80)),  # shrinks, bilinearly
        ((72, 128), (36, 64)),  # to exactly a half: still bilinear
        ((80, 128), (20, 40)),  # a fourth and less than a third
        ((60, 80), (20, 20)),  # whole-numbered shrinking, where sums end in halves
        ((107, 192), (33, 57)),  # areas
        ((107, 192), (33, 300)),  # one side shrinks, one grows
        ((1, 1), (5, 7)),
        ((2, 300), (9, 40)),
        ((300, 2), (64, 64)),
    ],
)
def test_the_kernel_gives_the_bits_of_the_cpu(kernels, source_hw, input_hw, resize):
    spec = replace(IMAGENET, input_hw=input_hw, resize=resize, pad_value=97)
    image = np.random.default_rng(1).integers(0, 256, (*source_hw, 3), dtype=np.uint8)
    _, found = preprocess_with(kernels, image, spec)
    np.testing.assert_array_equal(found, wanted_by_the_cpu(image, spec))


def test_both_kernels_are_among_the_cases(kernels):
    spec = ModelSpec((24, 80), ("Car",))
    small, large = (np.zeros((h, w, 3), np.uint8) for h, w in ((30, 90), (90, 300)))
    assert preprocess_with(kernels, small, spec)[0] == "bilinear"
    assert preprocess_with(kernels, large, spec)[0] == "area"
    assert averages_areas(placement((90, 300), spec))


def test_random_sizes_give_the_bits_of_the_cpu(kernels):
    random = np.random.default_rng(2)
    for _ in range(60):
        source = tuple(random.integers(1, 130, 2).tolist())
        height, width = random.integers(1, 100, 2).tolist()
        spec = ModelSpec((height, width), ("Car",), "stretch")
        image = random.integers(0, 256, (*source, 3), dtype=np.uint8)
        name, found = preprocess_with(kernels, image, spec)
        error = np.abs(found - wanted_by_the_cpu(image, spec)).max()
        assert error <= 1e-3, (source, spec.input_hw, name)


@pytest.mark.parametrize("source_hw", [(375, 1242), (1080, 1920), (720, 1280)])
def test_real_sizes_give_the_bits_of_the_cpu(kernels, source_hw):
    spec = replace(IMAGENET, input_hw=(384, 1248))
    image = np.random.default_rng(3).integers(0, 256, (*source_hw, 3), dtype=np.uint8)
    _, found = preprocess_with(kernels, image, spec)
    np.testing.assert_array_equal(found, wanted_by_the_cpu(image, spec))


@pytest.fixture
def nvrtc():
    try:
        compile_cuda("", "8.7")
    except CompileError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", ["8.7", "11.0"])
def test_nvrtc_compiles_the_kernels_for_orin_and_thor(capability):
    assert compile_cuda(kernel_source(), capability)[:4] == b"\x7fELF"


@pytest.mark.usefixtures("nvrtc")
def test_nvrtc_names_what_is_wrong():
    with pytest.raises(CompileError, match=r"NVRTC stopped with .*undefined"):
        compile_cuda('extern "C" __global__ void f() { g(); }', "8.7")


@pytest.mark.usefixtures("nvrtc")
def test_nvrtc_names_a_gpu_that_it_does_not_know():
    with pytest.raises(CompileError, match="NVRTC stopped with"):
        compile_cuda(kernel_source(), "3.5")
