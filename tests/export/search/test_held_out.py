"""Which frames limits are held on, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from edgedetr.calib.frames import frames_sha256
from edgedetr.calib.stats import CalibrationStats, read_stats
from edgedetr.export.search.held_out import check_enough, held_out, unlike_ranges
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def images(grey_kitti: Callable[..., Path]) -> list[Path]:
    return list_images(grey_kitti(3, 1) / "training" / "image_2")


@pytest.fixture
def stats(write_grey_stats: Callable[..., Path]) -> CalibrationStats:
    return read_stats(write_grey_stats())


def calibrated_on(stats: CalibrationStats, seen: list[Path]) -> CalibrationStats:
    return replace(stats, frames=len(seen), frames_sha256=frames_sha256(seen))


def test_what_calibration_used_is_left_out(
    images: list[Path], stats: CalibrationStats, tmp_path: Path
) -> None:
    """Of four images calibration takes the first and the third."""
    used = calibrated_on(stats, [images[0], images[2]])
    assert held_out(images, used, tmp_path) == [images[1], images[3]]


def test_images_that_calibration_did_not_use_are_all_held_out(
    images: list[Path], stats: CalibrationStats, tmp_path: Path
) -> None:
    assert held_out(images, replace(stats, frames_sha256="another"), tmp_path) == images


def test_where_calibration_used_all_none_is_left(
    images: list[Path], stats: CalibrationStats, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"used all 4 images of .*--frames 2, or give other images"):
        held_out(images, calibrated_on(stats, images), tmp_path)


class Frames:
    """Some frames of one detection each."""

    def __init__(self, count: int) -> None:
        self.counts = [1] * count

    def __len__(self) -> int:
        return len(self.counts)


def test_too_few_frames_say_how_many_more() -> None:
    """By hand: of n single detections, none lost, at most 1 - 0.05 ** (1 / n) are: 29 for 10 %."""
    few: Any = Frames(20)
    with pytest.raises(DataError, match="20 frames with 20 detections are too few") as caught:
        check_enough(few, INT8_LIMITS)
    more = int(str(caught.value).rpartition("give about ")[2].split()[0])
    assert 9 <= more <= 12
    enough: Any = Frames(29)
    check_enough(enough, INT8_LIMITS)


def test_tensors_whose_ranges_differ_wildly_are_named(
    grey_onnx: Path, write_grey_stats: Callable[..., Path], images: list[Path]
) -> None:
    model = onnx.load(grey_onnx)
    assert unlike_ranges(model, read_stats(write_grey_stats()), images) == []
    (line,) = unlike_ranges(model, read_stats(write_grey_stats("encoder/fpn", "mlp")), images)
    assert line.startswith("Warning: the largest values of 2 activations in held-out frames")
    assert "b 0.498 (498), e 0.498 (498); calibrate on frames like these" in line
