"""Prepare a student for quantization-aware training: ask its export where it will round."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedetr.distill.networks.fake_quantization import quantization_from_json
from edgedetr.distill.networks.reparameterize import reparameterize
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import write_text
from edgedetr.runtime.plugins import find

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from edgedetr.distill.config import QatConfig
    from edgedetr.distill.data import Dataset
    from edgedetr.distill.model import Model


def quantized_student(
    student: Model, config: QatConfig, dataset: Dataset, kept: Path, *, resumed: bool
) -> Model:
    """Return the student, its layers merged as in its export, with its quantization.

    Where the config wants none it is returned as it is.

    Args:
        student: The trained student, on the CPU.
        config: What to quantize, and from how many frames to take the ranges of activations.
        dataset: The training split.
        kept: JSON file of the run's quantization.
        resumed: Whether a run goes on that has written ``kept``.

    Raises:
        UsageError: If the export stage is not installed, or the config names no node.
        ArtifactError: If ``kept`` is damaged.
    """
    if not config.enabled:
        return student
    reparameterize(student.network)
    if resumed and kept.is_file():
        text = kept.read_text(encoding="utf-8")
        return replace(student, quantization=quantization_from_json(text, str(kept)))
    count = min(config.frames, len(dataset))
    frames = (dataset[i * len(dataset) // count].frame.image for i in range(count))
    found = _export_stage().calibrated(student, frames, config.include, config.exclude)
    write_text(kept, found.to_json() + "\n")
    return replace(student, quantization=found)


def _export_stage() -> ModuleType:
    """Find the stage above this one, which knows where an INT8 graph rounds."""
    try:
        return find("edgedetr.export", "qat")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"qat.enabled needs the export stage, which is not installed here ({error}); install "
            "EdgeDETR with the extra that has it: pip install 'edgedetr[export]'"
        ) from error
