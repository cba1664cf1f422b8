"""Write a checkpoint as ONNX, once the graph is checked to find the same objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.export.transforms.simplify import Simplified, simplify
from edgedetr.export.transforms.stored_ranges import store_ranges
from edgedetr.export.transforms.textures import textured_frames
from edgedetr.export.transforms.trace import trace
from edgedetr.export.transforms.trained_ranges import trained_ranges
from edgedetr.export.verify.compare import compare
from edgedetr.export.verify.limits import FP32_LIMITS
from edgedetr.export.verify.matching import Rule
from edgedetr.export.verify.report import ParityReport
from edgedetr.export.verify.runners.onnx import OnnxRunner
from edgedetr.export.verify.runners.torch import TorchRunner
from edgedetr.graph.lint import Finding, lint
from edgedetr.graph.metadata import set_metadata
from edgedetr.graph.model_file import check_onnx_name, load_onnx
from edgedetr.runtime.errors import GateError
from edgedetr.runtime.files import atomic_path, sha256
from edgedetr.runtime.manifest import versions_of, write_manifest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.export.transforms.deformable_attention import Form
    from edgedetr.export.verify.figures import Figures
    from edgedetr.export.verify.findings import Evidence

PACKAGES = ("edgedetr", "torch", "transformers", "onnx", "onnxsim")
RULE = Rule(threshold=0.0, top=20)
"""The best detections of a frame, so that a model that is sure of nothing is checked as well."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        nodes: Nodes of the graph.
        problem: Why the graph could not be simplified; empty where it was, or was not to be.
        parity: How it compares with the checkpoint, which samples in the same form where that form
            gives other numbers.
        broken: What TensorRT would break in the graph.
        moved: How far such a form moves what the checkpoint itself finds; None for the others.
    """

    nodes: int
    problem: str
    parity: ParityReport
    broken: list[Finding]
    moved: Figures | None = None


def export_onnx(  # noqa: PLR0913 - what a command line gives
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    frames: Iterable[NDArray[np.uint8]] | None = None,
    *,
    simplified: bool = True,
    deformable_attention: Form = "gather",
    batch: int = 1,
    command: str = "",
) -> Exported:
    """Write a checkpoint as ONNX, with its manifest; nothing is written unless it passes the gate.

    Args:
        checkpoint: A ``.safetensors`` file of this project.
        output: The ``.onnx`` file.
        frames: RGB images, uint8 (H, W, 3), on which the two are compared; `textured_frames` when
            None.
        simplified: Whether to fold what is constant; see `edgedetr.export.transforms.simplify`.
        deformable_attention: How the graph reads feature maps; see
            `edgedetr.export.transforms.deformable_attention`.
        batch: How many images the graph takes at once, those of several cameras.
        command: What made it, for the manifest.

    Raises:
        ArtifactError: If the checkpoint is missing or damaged.
        UsageError: If ``output`` does not end in ``.onnx``.
        GateError: If the two do not find the same objects.
    """
    checkpoint = Path(checkpoint)
    output = Path(output)
    check_onnx_name(output)
    model, versions = load_model(checkpoint), versions_of(PACKAGES)
    with atomic_path(output) as temporary:
        trace(model, temporary, deformable_attention, batch)
        result = (simplify if simplified else Simplified)(load_onnx(temporary))
        _save(result.model, temporary, model, versions)
        seen = textured_frames(model.spec.input_hw) if frames is None else list(frames)
        written, names = OnnxRunner(temporary), (checkpoint.name, output.name)
        changes = deformable_attention == "discrete"
        alike = TorchRunner(model, "discrete" if changes else "grid_sample")
        evidence = compare(alike, written, seen, RULE, FP32_LIMITS, names)
        parity = _report(evidence, (checkpoint, output), sha256(temporary), command)
        _check(parity, checkpoint, output)
        moved = _moved(model, written, seen, names) if changes else None
    write_manifest(
        output,
        kind="onnx",
        command=command,
        spec=model.spec,
        versions=versions,
        parents=[checkpoint],
        summary=parity.summary() + _fade_of(model),
    )
    nodes = len(result.model.graph.node)
    return Exported(nodes, result.problem, parity, lint(result.model), moved)


def _fade_of(model: Model) -> str:
    """Say of an imported model whether its queries fade, which its own library knows nothing of."""
    if model.architecture is None:
        return ""
    return f"; query fade {'on' if model.architecture.query_fade else 'off'}"


def _moved(
    model: Model, written: OnnxRunner, seen: list[NDArray[np.uint8]], names: tuple[str, str]
) -> Figures:
    """Compare a graph that samples otherwise with the network as it was trained."""
    return compare(TorchRunner(model), written, seen, RULE, FP32_LIMITS, names).figures


def _report(
    evidence: Evidence, paths: tuple[Path, Path], written_sha256: str, command: str
) -> ParityReport:
    """Report how a checkpoint and the graph that was written of it agree."""
    checkpoint, output = paths
    return ParityReport(
        figures=evidence.figures,
        share=evidence.share(FP32_LIMITS),
        limits=FP32_LIMITS,
        threshold=RULE.threshold,
        reference=checkpoint.name,
        reference_sha256=sha256(checkpoint),
        candidate=output.name,
        candidate_sha256=written_sha256,
        command=command,
    )


def _check(parity: ParityReport, checkpoint: Path, output: Path) -> None:
    if not parity.passed:
        raise GateError(
            f"{output} was not written: it does not find what {checkpoint} finds: {parity.reason}"
        )


def _save(graph: onnx.ModelProto, path: Path, model: Model, versions: Sequence[str]) -> None:
    """Check a graph and write it with our metadata and nobody else's."""
    del graph.metadata_props[:]
    set_metadata(graph, model.spec, versions)
    if model.quantization is not None:
        store_ranges(graph, trained_ranges(graph, model, model.quantization))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
