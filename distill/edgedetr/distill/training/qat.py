"""Prepare a student for quantization-aware training: calibrate it where its export rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgedetr.distill.model import Model
from edgedetr.distill.networks.fake_quantization import (
    Quantization,
    learn_steps,
    quantization_from_json,
)
from edgedetr.distill.networks.reparameterize import reparameterize
from edgedetr.distill.training.run_folder import STATE
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import read_text, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.distill.data import Dataset
    from edgedetr.distill.qat_config import QatConfig

Calibrate = Callable[[Model, Iterable[NDArray[np.uint8]], str, str], Quantization]
"""Calibrates a student on frames, uint8 (H, W, 3), where its export rounds; see `QatConfig` for
``include`` and ``exclude``. The export stage, which stands above this one, has it."""


def uncalibrated(*_: object) -> Quantization:
    """Stand in for a `Calibrate` where nobody gives one.

    Raises:
        UsageError: Always.
    """
    raise UsageError(
        "qat.enabled needs the calibration of the export stage; run edgedetr distill train with "
        "it installed (pip install 'edgedetr[export]'), or give recipe.train its calibrate"
    )


def quantized_student(
    student: Model,
    config: QatConfig,
    dataset: Dataset,
    out: Path,
    calibrate: Calibrate,
) -> Model:
    """Return the student, its layers merged as in its export, with its quantization.

    Where the config wants none it is returned as it is.

    Args:
        student: The trained student, on the CPU.
        config: What to quantize, and from how many frames to take the ranges of activations.
        dataset: The training split.
        out: Folder of the run; a run that goes on has its quantization there.
        calibrate: Calibrates the student where its export rounds.

    Raises:
        UsageError: If nobody gave a `Calibrate`, or the config names no node.
        ArtifactError: If the quantization of a run that goes on is damaged.
    """
    if not config.enabled:
        return student
    reparameterize(student.network)
    kept = out / "quantization.json"
    if (out / STATE).is_file() and kept.is_file():
        try:
            text = read_text(kept)
        except ValueError as error:
            raise ArtifactError(f"{kept} is damaged: {error}") from error
        found = quantization_from_json(text, str(kept))
        learn_steps(student.network, found)
        return replace(student, quantization=found)
    count = min(config.frames, len(dataset))
    frames = (dataset[i * len(dataset) // count].frame.image for i in range(count))
    found = calibrate(student, frames, config.include, config.exclude)
    found = replace(found, is_learnt=config.learn_steps)
    learn_steps(student.network, found)
    write_text(kept, found.to_json() + "\n")
    return replace(student, quantization=found)
