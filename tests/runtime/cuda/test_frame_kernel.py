"""The kernel's own source, compiled as C++ and run thread by thread, against the CPU's way."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from edgedetr.runtime.cuda.frame_kernel import BLOCK, grid, kernel_steps
from edgedetr.runtime.preprocess import Preprocessor, normalisation_tables, placement
from edgedetr.runtime.spec import ModelSpec

IMAGENET = ModelSpec((8, 8), ("Car",), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def preprocess_with(kernels, image, spec):
    place = placement(image.shape[:2], spec)
    levels = np.stack(normalisation_tables(spec))
    out = np.full((3, *spec.input_hw), np.nan, np.float32)
    *first, last = kernel_steps(place)
    for step in first:
        made = np.empty((step.height, step.width, 3), np.uint8)
        launch(kernels.launch_resize, step, image, made)
        image = made
    rest = (pointer(levels), *place.placed_hw, spec.pad_value)
    launch(kernels.launch_resize_into_input, last, image, out, *rest)
    return out


def launch(function, step, image, made, *rest):
    arrays = (image, made, step.columns, step.rows)
    sizes = (step.image_width, step.height, step.width)
    function(*grid(step), *BLOCK[:2], *map(pointer, arrays), *sizes, *rest)


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


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
        ((72, 128), (36, 64)),  # to exactly a half: at once
        ((80, 128), (20, 40)),  # a fourth and less than a third: halved first
        ((60, 80), (20, 20)),
        ((107, 192), (33, 57)),  # odd
        ((107, 191), (13, 20)),  # halved twice, a row and a column left out each time
        ((107, 192), (33, 300)),  # one side shrinks, one grows
        ((1, 1), (5, 7)),
        ((2, 300), (9, 40)),
        ((300, 2), (64, 64)),
    ],
)
def test_the_kernel_gives_the_bits_of_the_cpu(kernels, source_hw, input_hw, resize):
    spec = replace(IMAGENET, input_hw=input_hw, resize=resize, pad_value=97)
    image = np.random.default_rng(1).integers(0, 256, (*source_hw, 3), dtype=np.uint8)
    found = preprocess_with(kernels, image, spec)
    np.testing.assert_array_equal(found, wanted_by_the_cpu(image, spec))


def test_random_sizes_give_the_bits_of_the_cpu(kernels):
    random = np.random.default_rng(2)
    for _ in range(60):
        source = tuple(random.integers(1, 130, 2).tolist())
        height, width = random.integers(1, 100, 2).tolist()
        spec = ModelSpec((height, width), ("Car",), "stretch")
        image = random.integers(0, 256, (*source, 3), dtype=np.uint8)
        found = preprocess_with(kernels, image, spec)
        np.testing.assert_array_equal(found, wanted_by_the_cpu(image, spec), f"{source} to {spec}")


@pytest.mark.parametrize("source_hw", [(375, 1242), (1080, 1920), (720, 1280)])
@pytest.mark.parametrize("input_hw", [(384, 1248), (96, 320)])
def test_real_sizes_give_the_bits_of_the_cpu(kernels, source_hw, input_hw):
    spec = replace(IMAGENET, input_hw=input_hw)
    image = np.random.default_rng(3).integers(0, 256, (*source_hw, 3), dtype=np.uint8)
    found = preprocess_with(kernels, image, spec)
    np.testing.assert_array_equal(found, wanted_by_the_cpu(image, spec))
