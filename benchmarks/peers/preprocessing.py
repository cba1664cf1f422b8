"""From an RGB frame to the network's input by other libraries: the same size, mean and std."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec
from peers.rows import OURS, Row, named, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIZES = (((375, 1242), (384, 1248)), ((1080, 1920), (640, 640)))
"""Source and input, height and width."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rows(frame: NDArray[np.uint8], rounds: int) -> list[Row]:
    """Compare on one RGB frame, brought to the source's sizes."""
    made = []
    for source, wanted in SIZES:
        image = np.asarray(cv2.resize(frame, source[::-1]), np.uint8)
        task = f"preprocessing, {source[1]}x{source[0]} to {wanted[1]}x{wanted[0]}"
        made += timed(task, *ways(image, wanted), rounds)
    return made


def ways(
    image: NDArray[np.uint8], wanted: tuple[int, int]
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Return what makes float32 (3, H, W) of an image in each library, and how far it is from ours.

    Args:
        image: RGB, uint8 (H, W, 3).
        wanted: Height and width of the input.
    """
    spec = ModelSpec(wanted, ("Car",), resize="stretch", mean=MEAN, std=STD)
    alike = replace(spec, antialias=True)
    ours, as_theirs = (make_ours(image, each) for each in (spec, alike))
    theirs: dict[str, Callable[[], NDArray[np.float32]]] = {
        named("torchvision", "v2, antialias"): by_torchvision(image, wanted),
        named("transformers", "RTDetrImageProcessor"): by_transformers(image, wanted),
    }
    pixels = as_theirs()
    notes = {
        name: f"differs by {np.abs(way().reshape(pixels.shape) - pixels).mean():.4f} standard "
        "deviations on average from ours with antialias"
        for name, way in theirs.items()
    }
    return {OURS: ours, f"{OURS}, antialias as imported models": as_theirs, **theirs}, notes


def make_ours(image: NDArray[np.uint8], spec: ModelSpec) -> Callable[[], NDArray[np.float32]]:
    """Return our preprocessing by a spec, into an array that is used again."""
    preprocess, out = Preprocessor(spec), np.empty((3, *spec.input_hw), np.float32)

    def prepare() -> NDArray[np.float32]:
        preprocess(image, out)
        return out

    return prepare


def by_torchvision(
    image: NDArray[np.uint8], wanted: tuple[int, int]
) -> Callable[[], NDArray[np.float32]]:
    """Return torchvision's transforms as its own detectors' recipes have them."""
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.Resize(list(wanted), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(MEAN), list(STD)),
        ]
    )

    def prepare() -> NDArray[np.float32]:
        return np.asarray(transform(torch.from_numpy(image).permute(2, 0, 1)).numpy(), np.float32)

    return prepare


def by_transformers(
    image: NDArray[np.uint8], wanted: tuple[int, int]
) -> Callable[[], NDArray[np.float32]]:
    """Return the image processor of transformers' RT-DETR and D-FINE."""
    from transformers import RTDetrImageProcessor

    processor = RTDetrImageProcessor(
        size={"height": wanted[0], "width": wanted[1]},
        do_normalize=True,
        image_mean=list(MEAN),
        image_std=list(STD),
    )

    def prepare() -> NDArray[np.float32]:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        return np.asarray(pixels.numpy(), np.float32)

    return prepare
