"""The measurements of a search for INT8 coverage, as stored beside the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgedetr.export.search.sensitivity import BlockEffect
from edgedetr.export.search.speed import Speed
from edgedetr.export.transforms.quantize import Rest
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_json, write_text
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Step:
    """A set of candidates that was measured together.

    Attributes:
        tried: What was added or left out.
        blocks: All candidates in it.
        coverage: Its share of the model's multiply-accumulates.
        ap: COCO AP in per cent; None without labels.
        ap_drop: By how many points it is below that of FP32; None without labels.
        kept: Whether the limit held, so that the search went on from here.
        rest: The precision of the rest.
        ap_drop_high: Upper bound of the drop at 95 % confidence; None where it was not needed.
        lost_share: Share of lost detections, see `edgedetr.export.verify.limits.INT8_LIMITS`; None
            in files from before there was one.
        lost_share_high: Its upper bound at 95 % confidence.
    """

    tried: str
    blocks: tuple[str, ...]
    coverage: float
    ap: float | None
    ap_drop: float | None
    kept: bool
    rest: Rest = "fp32"
    ap_drop_high: float | None = None
    lost_share: float | None = None
    lost_share_high: float | None = None

    def cost(self) -> str:
        """Describe the loss: points of AP, or without labels the share of detections."""
        if self.ap_drop is not None:
            return f"{self.ap_drop:.2f} points of AP"
        return f"{self.lost_share or 0.0:.2%} of the detections"


@dataclass(frozen=True)
class CoverageRecord:
    """The content of ``OUTPUT.coverage.json``.

    Attributes:
        int8: File name of the INT8 model.
        model: File name of the FP32 model.
        model_sha256: Hash of its bytes.
        command: The command that searched.
        max_ap_drop: The limit, in points of AP; None where the gate of ``edgedetr verify`` is.
        is_worth_it: Whether the INT8 model was written.
        coverage: Share of the multiply-accumulates that may run in INT8.
        frames: Frames that every set was measured on.
        macs: Multiply-accumulates of the model.
        fp32_ap: COCO AP of the FP32 model in per cent; None without labels.
        ap: COCO AP with the chosen candidates, in per cent; that of FP32 where none was chosen.
        chosen: Names of the candidates in INT8.
        curve: Every set that was measured, in this order.
        blocks: The effect of each candidate alone, the worst first.
        rest: The precision of the rest.
        nothing_to_compare: Whether the FP32 model has no detection in the frames, so that nothing
            could be measured.
        said: The result in a line.
        speed: How fast the INT8 model is in what runs it; None where it was not measured.
    """

    int8: str
    model: str
    model_sha256: str
    command: str
    max_ap_drop: float | None
    is_worth_it: bool
    coverage: float
    frames: int
    macs: int
    fp32_ap: float | None
    ap: float | None
    chosen: tuple[str, ...]
    curve: tuple[Step, ...]
    blocks: tuple[BlockEffect, ...]
    rest: Rest = "fp32"
    nothing_to_compare: bool = False
    said: str = ""
    speed: Speed | None = None

    def write(self, output: Path) -> Path:
        """Write it beside an INT8 model; return its path."""
        path = coverage_path(output)
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")
        return path


def read_coverage(path: Path) -> CoverageRecord:
    """Read what `CoverageRecord.write` wrote.

    Raises:
        ArtifactError: If the file is missing, damaged or something else.
    """
    try:
        return settings_from_dict(CoverageRecord, read_json(path), str(path))
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(
            f"{path} is no coverage record of edgedetr export qdq: {error}; run it again"
        ) from error


def coverage_path(output: Path) -> Path:
    """Return the path of the measurements behind an INT8 model."""
    return output.with_name(f"{output.name}.coverage.json")
