"""The frames that limits are held on: those that calibration did not see, enough and alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.calib.frames import choose_frames, frames_sha256
from edgedetr.calib.value_ranges import value_ranges
from edgedetr.distill.labels.pictures import read_picture
from edgedetr.export.verify.figures import counted
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.export.search.trial import Trial
    from edgedetr.export.verify.limits import Limits

PROBED = 16
"""Held-out frames on which ranges are measured."""
WILDLY = 3.0
"""Times by which the largest magnitudes of a tensor in two sets of frames may differ."""

_NAMED = 3


def held_out(images: Sequence[Path], stats: CalibrationStats, source: Path) -> list[Path]:
    """Leave out the images that a model was calibrated on.

    Args:
        images: What calibration may have chosen from.
        stats: The calibration; where its frames were others, all images are held out.
        source: Where the images come from, for messages.

    Raises:
        DataError: If calibration used all, or an image of it cannot be read.
    """
    used = choose_frames(images, stats.frames)
    if len(used) != stats.frames or frames_sha256(used) != stats.frames_sha256:
        return list(images)
    seen = set(used)
    unseen = [image for image in images if image not in seen]
    if not unseen:
        raise DataError(
            f"calibration used all {counted(len(images), 'image')} of {source}, so that none is "
            f"left to measure on; calibrate again with --frames {max(1, len(images) // 2)}, or "
            "give other images"
        )
    return unseen


def check_enough(trial: Trial, limits: Limits) -> None:
    """Refuse frames that could not prove the limits even if nothing were lost.

    Raises:
        DataError: If there are too few; it says about how many more are needed.
    """
    best = lost_share([0] * len(trial), trial.counts)
    if best.high <= limits.lost_share:
        return
    more = best.frames_needed(limits.lost_share)
    raise DataError(
        f"{counted(len(trial), 'frame')} with {counted(best.compared, 'detection')} are too few: "
        f"even if none is lost, up to {best.high:.1%} may be, and {limits.lost_share:.0%} are "
        f"allowed; give about {more} more"
    )


def unlike_ranges(
    model: onnx.ModelProto, stats: CalibrationStats, images: Sequence[Path]
) -> list[str]:
    """Name the tensors whose ranges on held-out frames differ wildly from calibration's.

    Args:
        model: The float32 model.
        stats: Its calibration.
        images: The held-out frames, of which some are run.

    Returns:
        A line that names the worst; none where ranges are alike.
    """
    frames = map(read_picture, choose_frames(images, PROBED))
    found = {n: r.magnitude for n, r in value_ranges(model, stats.spec, frames).items()}
    both = [(r.tensor, found[r.tensor], r.max) for r in stats.ranges if r.tensor in found]
    unlike = [b for b in both if max(b[1:]) > WILDLY * min(b[1:])]
    if not unlike:
        return []
    unlike.sort(key=lambda b: max(b[1:]) / max(min(b[1:]), 1e-12), reverse=True)
    worst = ", ".join(f"{name} {seen:.3g} ({known:.3g})" for name, seen, known in unlike[:_NAMED])
    more = f" and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
    return [
        f"Warning: the largest values of {counted(len(unlike), 'activation')} in held-out frames "
        f"and in those of calibration are more than {WILDLY:g} times apart: {worst}{more}; "
        "calibrate on frames like these"
    ]
