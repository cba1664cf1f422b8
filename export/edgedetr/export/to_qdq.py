"""Quantize a calibrated ONNX file; see `edgedetr.export.transforms.quantize`."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgedetr.calib.stats import read_stats
from edgedetr.export.transforms.quantize import quantize, quantized_share, rest_of, with_rest
from edgedetr.export.transforms.stored_ranges import stored_ranges
from edgedetr.graph.checksum import model_files
from edgedetr.graph.fp8 import OLDEST_FP8
from edgedetr.graph.lint import refuse_broken
from edgedetr.graph.metadata import set_metadata
from edgedetr.graph.model_file import check_onnx_name, load_onnx
from edgedetr.graph.requirements import (
    check_operators,
    check_static,
    spec_of,
)
from edgedetr.graph.sampling_plugin import PLUGIN, plugin_nodes
from edgedetr.runtime.backend_lookup import backend as find_backend
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError, UsageError
from edgedetr.runtime.files import atomic_path, is_same_file
from edgedetr.runtime.manifest import versions_of, write_manifest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.calib.stats import CalibrationStats
    from edgedetr.calib.targets import EightBit, Target
    from edgedetr.export.transforms.quantize import QuantizedShare, Rest
    from edgedetr.runtime.spec import ModelSpec

VERSIONS = ("edgedetr", "numpy", "onnx")


def export_qdq(  # noqa: PLR0913, PLR0917 - one argument per option
    path: str | os.PathLike[str],
    stats_path: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    include: str = "",
    exclude: str = "",
    rest: Rest | None = None,
    spec: ModelSpec | None = None,
    frames: Iterable[NDArray[np.uint8]] | None = None,
    named: Mapping[str, str] | None = None,
    target: Target = "tensorrt",
    precision: EightBit = "int8",
) -> QuantizedShare:
    """Quantize a calibrated ONNX file and write it with its manifest.

    Args:
        path: A float32 ONNX model.
        stats_path: What ``edgedetr calib collect`` wrote for exactly this model; None for one that
            was trained for INT8, which holds ranges and says what they are for.
        output: Where to write.
        include: See `quantize`.
        exclude: See `quantize`.
        rest: What computes where INT8 does not; see decision 0007. The target decides when None.
        spec: The spec of a model that holds none, as calibration was given it.
        frames: RGB images, uint8 (H, W, 3), on which ``fp16`` measures ranges, beside what the
            stats hold; generated when None.
        named: Options that named spec and frames, and what they named, for the manifest.
        target: What the graph is for.
        precision: ``int8``, or ``fp8`` for TensorRT on GPUs that multiply it.

    Raises:
        ArtifactError: If a file is damaged, they do not belong together, the model has free sizes
            or operators that ONNX does not define, or the target's version here does not run it.
        UsageError: If an option names nothing, or what the target does not run.
        GateError: If TensorRT would break the graph.
    """
    path, output, rest = Path(path), Path(output), rest or rest_of(target)
    stats_path = Path(stats_path) if stats_path is not None else None
    parents = [path, stats_path] if stats_path else [path]
    _check_output(output, parents)
    model = load_onnx(path)
    _check_target(model, path, stats_path, target, precision)
    stats, include, exclude = _request(model, path, stats_path, (include, exclude), target)
    _check(model, path, stats, spec)
    quantized = quantize(model, stats, include, exclude, target, precision)
    share = quantized_share(quantized)
    quantized, half = with_rest(quantized, stats, rest, frames)
    chosen = (include, exclude) if stats_path else ("", "")
    versions = _save(quantized, output, stats.spec, target)
    write_manifest(
        output,
        kind="qdq",
        command=_command(parents, {**_options(chosen, target, precision, rest), **(named or {})}),
        spec=stats.spec,
        versions=versions,
        parents=[*model_files(path), *parents[1:]],
        summary=f"for {target}: {replace(share, rest=half).describe()}",
        targets=(target,),
    )
    return replace(share, rest=half)


def _check_output(output: Path, inputs: list[Path]) -> None:
    """Refuse a name that is not ONNX's, or that of an input."""
    check_onnx_name(output)
    if is_same_file(output, *inputs):
        raise UsageError(f"{output} is an input of the same command; choose another --output")


def _options(
    choice: tuple[str, str], target: Target, precision: EightBit, rest: Rest
) -> dict[str, str]:
    """Return the options that make a graph again; empty ones are left out."""
    include, exclude = choice
    options = {"--include": include, "--exclude": exclude, "--for": target}
    return options | {"--precision": "" if precision == "int8" else precision, "--rest": rest}


def _check_target(
    model: onnx.ModelProto,
    path: Path,
    stats_path: Path | None,
    target: Target,
    precision: EightBit,
) -> None:
    """Refuse a model that the target does not run in float either, or not in FP8."""
    if target == "openvino" and plugin_nodes(model):
        raise UsageError(
            f"{path} has nodes of TensorRT's plugin {PLUGIN}, which OpenVINO does not run; export "
            "it with --deformable-attention gather"
        )
    if precision == "fp8":
        _check_fp8(path, stats_path, target)


def _check_fp8(path: Path, stats_path: Path | None, target: Target) -> None:
    """Refuse FP8 for a CPU, and of a model that was trained to round to INT8."""
    if target != "tensorrt":
        raise UsageError(
            f"--precision fp8 is for TensorRT on GPUs of compute capability {OLDEST_FP8} and "
            f"later, and {target} has no kernel for it; leave out --precision, or --for"
        )
    if stats_path is None:
        raise UsageError(
            f"--precision fp8 needs STATS (edgedetr calib collect {path}): the ranges in a model "
            "that was trained for INT8 are clipped"
        )


def _save(model: onnx.ModelProto, output: Path, spec: ModelSpec, target: Target) -> tuple[str, ...]:
    """Write a model with its metadata, and return the versions that made it."""
    versions = versions_of(VERSIONS)
    set_metadata(model, spec, versions, target)
    with atomic_path(output) as temporary:
        onnx.save(model, temporary)
        if target != "tensorrt":
            _check_runs(temporary, output, target)
    return versions


def _check_runs(path: Path, output: Path, target: Target) -> None:
    """Stop where the version of a CPU's library that is installed here cannot run a graph.

    Where none is installed, the vehicle finds out when it opens the file.
    """
    try:
        module = find_backend(target)
    except UsageError:
        return
    try:
        module.open_session(path).close()
    except EdgeDetrError as error:
        version = versions_of((target,))[0].replace("==", " ")
        reason = str(error).replace(str(path), output.name)
        raise ArtifactError(
            f"{version} cannot run the INT8 graph: {reason}; install another version, or choose "
            "another target with --for"
        ) from error


def _command(parents: list[Path], options: Mapping[str, str]) -> str:
    """Return what makes the same file again."""
    words = ["edgedetr export qdq", *(p.name for p in parents)]
    words += [f"{option} {shlex.quote(value)}" for option, value in options.items() if value]
    return " ".join(words)


def _request(
    model: onnx.ModelProto,
    path: Path,
    stats_path: Path | None,
    choice: tuple[str, str],
    target: Target,
) -> tuple[CalibrationStats, str, str]:
    """Read the stats, or take those that a model was trained with and what they are for."""
    include, exclude = choice
    if stats_path is not None:
        stats = read_stats(stats_path)
        stats.check_model(path)
        return stats, include, exclude
    trained = stored_ranges(model, path)
    if target != "tensorrt":
        raise UsageError(
            f"{path} was trained to round as TensorRT does, which CPUs run too; leave out --for "
            f"{target}, or give STATS: edgedetr calib collect {path}"
        )
    if include or exclude:
        raise UsageError(
            f"{path} was trained for INT8 in certain nodes; give STATS to quantize others: "
            f"edgedetr calib collect {path}"
        )
    return trained.stats(model, path), trained.include, trained.exclude


def _check(
    model: onnx.ModelProto, path: Path, stats: CalibrationStats, spec: ModelSpec | None
) -> None:
    """Refuse a model that cannot be quantized, or is not what the stats are of."""
    if spec not in {None, stats.spec}:
        ours, theirs = asdict(stats.spec), asdict(spec)
        key = next(key for key in ours if ours[key] != theirs[key])
        raise ArtifactError(
            f"the calibration of {path} was made with {key} {ours[key]!r}, --spec says "
            f"{theirs[key]!r}; calibrate again: edgedetr calib collect {path} --spec"
        )
    spec_of(model, path, stats.spec)
    check_operators(model, path)
    check_static(model, stats.spec, path)
    refuse_broken(model, path.name)
