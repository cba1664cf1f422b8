"""What a fleet demands of every package, whatever options its maker chose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from edgedetr.export.package.chain import reached
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.package.signing import fingerprint, load_public_key
from edgedetr.runtime.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgedetr.export.package.candidate import Candidate
    from edgedetr.export.package.chain import Start
    from edgedetr.export.package.device_checks import DeviceProof
    from edgedetr.export.verify.record import VerifyRecord
    from edgedetr.runtime.package.format import Precision

Required = Literal["accuracy", "checkpoint", "device", "engine"]


@dataclass(frozen=True)
class ReportPolicy:
    """The loosest gate that a report about a model of one precision may have passed.

    Attributes:
        min_frames: Least number of frames.
        max_threshold: Highest score from which detections count.
        min_iou: Lowest overlap with which a detection counts as kept; None for any.
        max_score_error: Largest change of its score.
        max_lost: Largest share of lost detections, in [0, 1].
        max_box_error_px: Farthest that a side of a box may move, in source pixels.
    """

    min_frames: int = 1
    max_threshold: float = 1.0
    min_iou: float | None = None
    max_score_error: float | None = None
    max_lost: float | None = None
    max_box_error_px: float | None = None

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise ValueError("min_frames must be at least 1")
        for name in ("max_threshold", "min_iou", "max_lost"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"{name} must lie in 0 to 1")
        if min(self.max_score_error or 0, self.max_box_error_px or 0) < 0:
            raise ValueError("a limit must not be negative")

    def misfit(self, verdict: VerifyRecord) -> str:
        """Return what a report does not fulfil; empty where it fulfils all."""
        report = verdict.report
        limits = report.limits
        least: list[tuple[str, float, float | None]] = [
            ("frames", report.figures.frames, self.min_frames),
            ("limit of IoU", limits.iou, self.min_iou),
        ]
        most: list[tuple[str, float | None, float | None]] = [
            ("threshold", report.threshold, self.max_threshold),
            ("limit of the score error", limits.score_error, self.max_score_error),
            ("limit of lost detections", limits.lost_share, self.max_lost),
            ("limit of the box error", limits.box_error_px, self.max_box_error_px),
        ]
        for name, value, wanted in least:
            if wanted is not None and value < wanted:
                return f"has {name} {value:g}, wanted at least {wanted:g}"
        for name, found, wanted in most:
            if wanted is not None and (found is None or found > wanted):
                has = "none" if found is None else f"{found:g}"
                return f"has {name} {has}, wanted at most {wanted:g}"
        return ""


@dataclass(frozen=True)
class Policy:
    """The content of a policy file.

    Attributes:
        require: Gates that must be there: ``accuracy``, a report.json of every model;
            ``checkpoint``, a chain from a checkpoint for every model and no import; ``device``, a
            device that ran every model and engine; ``engine``, a report about every engine.
        device_keys: Public keys, relative to the policy, of which one must have signed every record
            of a device; empty for any or none.
        min_calibration_frames: Least number of frames that INT8 was calibrated on.
        fp32: What reports about FP32 models must fulfil.
        fp16: Likewise of FP16.
        int8: Likewise of INT8.
    """

    require: tuple[Required, ...] = ()
    device_keys: tuple[str, ...] = ()
    min_calibration_frames: int = 0
    fp32: ReportPolicy = field(default_factory=ReportPolicy)
    fp16: ReportPolicy = field(default_factory=ReportPolicy)
    int8: ReportPolicy = field(default_factory=ReportPolicy)


@dataclass(frozen=True)
class Evidence:
    """What a policy judges.

    Attributes:
        models: The ONNX models.
        verdicts: Their reports.
        starts: Where their chains begin.
        engines: File name and hash of each engine.
        calibration_frames: Frames of the calibration; None where there was none.
        has_accuracy: Whether a report.json tells of every model.
        devices: What devices proved.
    """

    models: Sequence[Candidate]
    verdicts: Sequence[VerifyRecord]
    starts: Sequence[Start]
    engines: Mapping[str, str]
    calibration_frames: int | None
    has_accuracy: bool
    devices: Sequence[DeviceProof]


def read_policy(path: Path) -> Policy:
    """Read a policy, TOML.

    Raises:
        SettingsError: If it is none: an unknown key is refused with the nearest name.
    """
    return load_settings(Policy, path)


def check_policy(policy: Policy, source: Path, evidence: Evidence) -> str:
    """Require that a package fulfils a policy.

    Args:
        policy: The policy.
        source: Its file, for messages.
        evidence: What the gates saw.

    Returns:
        A line that says so.

    Raises:
        ArtifactError: If a key that the policy names is missing or none.
        GateError: With the first demand that is not fulfilled.
    """
    for required in get_args(Required):
        if required in policy.require and (missing := _missing(required, evidence)):
            raise GateError(f"{source} requires {required}: {missing}")
    _check_signers(policy, source, evidence.devices)
    frames, least = evidence.calibration_frames, policy.min_calibration_frames
    if frames is not None and frames < least:
        raise GateError(
            f"{source} wants at least {least} frames of calibration, found {frames}; run edgedetr "
            "calib collect on more"
        )
    precisions: dict[str, Precision] = {m.sha256: m.precision for m in evidence.models}
    for verdict in evidence.verdicts:
        precision = precisions.get(verdict.candidate_sha256, verdict.report.precisions[1])
        rules: ReportPolicy = getattr(policy, precision)
        if misfit := rules.misfit(verdict):
            raise GateError(f"{source}: {verdict.path.name} {misfit}; run edgedetr verify again")
    return f"policy {source.name} is fulfilled"


def _check_signers(policy: Policy, source: Path, devices: Sequence[DeviceProof]) -> None:
    keys = [load_public_key(source.parent / name) for name in policy.device_keys]
    known = {fingerprint(key) for key in keys}
    for proof in devices:
        if known and proof.signed_by not in known:
            raise GateError(
                f"{source}: {proof.name} is signed by {proof.signed_by[:16] or 'nobody'}, wanted "
                f"one of {', '.join(policy.device_keys)}; run edgedetr device check with --key"
            )


def _missing(required: Required, evidence: Evidence) -> str:
    """Return what of a required gate is missing, and what makes it; empty where nothing is."""
    if required == "accuracy":
        return "" if evidence.has_accuracy else "give edgedetr report's report.json with --report"
    if required == "checkpoint":
        begins = {s.sha256 for s in evidence.starts if s.kind == "checkpoint"}
        checked = reached(begins, evidence.verdicts)
        names = [m.path.name for m in evidence.models if m.sha256 not in checked]
        return f"{names[0]} comes from an import; distil and export it" if names else ""
    if required == "device":
        shown = {sha256 for proof in evidence.devices for sha256 in proof.shown}
        packed = {m.path.name: m.parts[0] for m in evidence.models} | dict(evidence.engines)
        names = [name for name, found in packed.items() if found not in shown]
        return f"no device ran {names[0]}; give its record with --device-check" if names else ""
    known = {v.candidate_sha256 for v in evidence.verdicts}
    names = [name for name, found in evidence.engines.items() if found not in known]
    return f"{names[0]} has no report; run edgedetr verify MODEL.onnx {names[0]}" if names else ""
