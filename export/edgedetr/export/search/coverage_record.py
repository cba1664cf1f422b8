"""What a search for the largest share of INT8 measured, as it lies beside the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgedetr.export.search.sensitivity import BlockEffect
from edgedetr.export.to_qdq import Rest
from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import read_json, write_text
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Step:
    """A set of candidates that was measured together.

    Attributes:
        tried: What was new in it.
        blocks: All that was in it.
        coverage: Its share of the model's multiply-accumulates.
        ap: COCO AP in per cent; None without labels.
        ap_drop: By how many points it is below that of FP32; None without labels.
        kept: Whether the limit held, so that the search went on from here.
        rest: What all else computed in.
        ap_drop_high: The drop on all such frames is below this in 95 % of such measurements; None
            where it was not needed.
        lost_share: Share of detections that are lost, see
            `edgedetr.export.verify.limits.INT8_LIMITS`; None in files from before there was one.
        lost_share_high: The share among all such frames is below this in 95 % of such tests.
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
        """Say what it costs: points of AP, or without labels the detections that are lost."""
        if self.ap_drop is not None:
            return f"{self.ap_drop:.2f} points of AP"
        return f"{self.lost_share or 0.0:.2%} of the detections"


@dataclass(frozen=True)
class CoverageRecord:
    """What ``OUTPUT.coverage.json`` holds.

    Attributes:
        int8: File name of the INT8 model.
        model: File name of the FP32 model.
        model_sha256: Hash of its bytes.
        command: What searched.
        max_ap_drop: The limit, in points of AP; None where the gate of ``edgedetr verify`` is.
        is_worth_it: Whether the INT8 model was written.
        coverage: Share of the multiply-accumulates that may run in INT8.
        frames: Frames that every set was measured on.
        macs: Multiply-accumulates of the model.
        fp32_ap: COCO AP of the FP32 model in per cent; None without labels.
        ap: COCO AP of what was chosen, in per cent; that of FP32 where nothing was.
        chosen: Names of the candidates in INT8.
        curve: Every set that was measured, in this order.
        blocks: What each candidate costs alone, the worst first.
        rest: What all else computes in.
        nothing_to_compare: Whether the FP32 model finds nothing in the frames, so that nothing
            could be measured.
        said: What came of it, in a line.
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

    def write(self, output: Path) -> Path:
        """Write it beside an INT8 model; return where."""
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
        raise ArtifactError(f"{path}: no measured coverage of INT8: {error}") from error


def coverage_path(output: Path) -> Path:
    """Return where the measurements behind an INT8 model lie."""
    return output.with_name(f"{output.name}.coverage.json")
