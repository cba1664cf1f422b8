"""Build an engine from a typed ONNX file, and prove that its name gives its precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.export.engine.build import EngineBuild
from edgedetr.export.engine.builders import load_builder, version_of
from edgedetr.export.engine.log import EngineLog
from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.engine.precision import Precision, check_claims, claims
from edgedetr.export.engine.stop import postponed
from edgedetr.graph.checksum import model_files
from edgedetr.graph.lint import doubts, refuse_broken
from edgedetr.graph.metadata import int8_target
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.requirements import check_operators, check_static, spec_of
from edgedetr.graph.sampling_plugin import PLUGIN, plugin_nodes
from edgedetr.graph.wiring import label
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import atomic_path, write_text
from edgedetr.runtime.manifest import manifest_path, read_manifest, versions_of, write_manifest

if TYPE_CHECKING:
    import os

    import onnx

    from edgedetr.export.engine.log import OnStep
    from edgedetr.runtime.cuda.engine_layers import EngineLayers
    from edgedetr.runtime.spec import ModelSpec

SUFFIX = ".engine"

SHOWN = 3
"""Names of nodes that a note lists."""


@dataclass(frozen=True)
class EngineReport:
    """What an export made.

    Attributes:
        builder: The library and its version, ``tensorrt==10.3.0``.
        targets: The devices that the engine runs on; see `edgedetr.runtime.manifest.Manifest`.
        precision: The types of the network.
        layers: The engine's layers; None where this machine cannot load it.
        weights_mib: Size of the engine's weights, in MiB; None where the builder does not say.
        notes: Notes for the user, a line each.
    """

    builder: str
    targets: tuple[str, ...]
    precision: Precision
    layers: EngineLayers | None
    weights_mib: float | None
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Return a one-line summary."""
        engine = ""
        if self.layers is not None:
            engine = f"; layers of the engine: {self.layers.describe()}"
        return f"{self.builder} for {', '.join(self.targets)}: {self.precision.describe()}{engine}"


def export_engine(  # noqa: PLR0913 - what a command line gives
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: EngineOptions | None = None,
    *,
    backend: str | None = None,
    spec: ModelSpec | None = None,
    command: str = "edgedetr export engine",
    on_step: OnStep | None = None,
) -> EngineReport:
    """Build an engine with its manifest; the builder's log lies beside it as ``OUTPUT.log``.

    Args:
        path: An ONNX file, whose types the engine keeps.
        output: Where to write; ``.engine``.
        options: How to build.
        backend: ``tensorrt`` or ``tensorrt_rtx``; the first that imports when None.
        spec: The spec of a model that holds none.
        command: What made it, for the manifest.
        on_step: Called with the progress: phase, finished steps, all steps.

    Raises:
        ArtifactError: If no builder is installed, the model is damaged, or the builder fails.
        UsageError: If the builder does not support an option.
        GateError: If TensorRT would break the graph, or the graph or the engine that was built has
            none of the precision that its name promises.
    """
    path, output, options = Path(path), _engine_path(output), options or EngineOptions()
    module, trt = load_builder(backend)
    module.check(options)
    targets = module.targets(trt, options)
    model = load_onnx(path)
    spec = _check_model(model, path, spec, options)
    claimed, log = _claimed(path, output), EngineLog()
    with postponed() as stops:
        try:
            build = EngineBuild(module, trt, path, log)
            build.check_ends(spec)
            build.check_plugins([label(node) for node in plugin_nodes(model)])
            precision = build.precision()
            check_claims(claimed, precision.macs, path.name)
            built = build.compile(options, stops, on_step)
            notes = (*_lost(built.layers, precision, claimed, path.name), *built.notes)
        finally:
            write_text(output.with_name(output.name + ".log"), log.text())
    made = (precision, built.layers, log.weights_mib(), (*_doubts(model, built.layers), *notes))
    report = EngineReport(version_of(trt), targets, *made)
    with atomic_path(output) as temporary:
        temporary.write_bytes(built.engine)
    write_manifest(
        output,
        kind="engine",
        command=command,
        spec=spec,
        versions=(*versions_of(("edgedetr", "onnx")), _runner(report, options)),
        parents=model_files(path),
        summary=report.describe(),
        targets=targets,
    )
    return report


def _engine_path(output: str | os.PathLike[str]) -> Path:
    if Path(output).suffix != SUFFIX:
        raise UsageError(f"--output {output}: wanted a name that ends in {SUFFIX}")
    return Path(output)


def _check_model(
    model: onnx.ModelProto, path: Path, spec: ModelSpec | None, options: EngineOptions
) -> ModelSpec:
    """Refuse a graph that cannot become an engine, before a builder sees it."""
    inputs = [i.name for i in model.graph.input]
    spec = spec_of(model, path, spec)
    left = {i.name for i in model.graph.input}
    if fixed := [name for name in inputs if name not in left]:
        raise ArtifactError(
            f"{path} takes {', '.join(fixed)} beside the image, which engines do not get; export "
            "fp16 and export qdq turn it into a constant: build from what they write"
        )
    if (target := int8_target(model)) not in {"", "tensorrt"}:
        raise ArtifactError(
            f"{path} was quantized for {target}, and TensorRT takes no zero points but 0; make one "
            "for it: edgedetr export qdq --for tensorrt"
        )
    check_operators(model, path)
    check_static(model, spec, path)
    refuse_broken(model, path.name)
    if options.version_compatible and plugin_nodes(model):
        raise UsageError(
            f"{path} has nodes of the plugin {PLUGIN}, which the library of one version brings; "
            "leave out --version-compatible, or export with --deformable-attention gather"
        )
    first = {v.name: v.type.tensor_type.shape.dim[0] for v in model.graph.input}[spec.input_name]
    if first.dim_value and options.batch:
        raise UsageError(f"{path} has a static batch of {first.dim_value}; leave out --batch")
    if not first.dim_value and not options.batch:
        raise UsageError(
            f"{path} has a dynamic batch ({first.dim_param or 'no name'}); give --batch "
            "MIN,OPT,MAX such as 1,1,4"
        )
    return spec


def _lost(
    layers: EngineLayers | None, precision: Precision, claimed: set[str], name: str
) -> list[str]:
    """Refuse an engine without what its name promises; note what it computes in another type."""
    if layers is None:
        return []
    check_claims(claimed, layers.computes_in, f"the engine of {name}")
    lost = layers.lost_int8(precision.int8)
    if not lost:
        return []
    shown = ", ".join(lost[:SHOWN]) + (", ..." if len(lost) > SHOWN else "")
    return [
        f"the engine does not compute {len(lost)} of {len(precision.int8)} INT8 products of the "
        f"graph in INT8: {shown}; export qdq --exclude takes them out"
    ]


def _doubts(model: onnx.ModelProto, layers: EngineLayers | None) -> list[str]:
    """Note what TensorRT may break, and plugins that the engine's own list does not name."""
    notes = [f"{finding}; compare the engine on real frames" for finding in doubts(model)]
    plugins = len(plugin_nodes(model))
    if layers is not None and layers.plugins < plugins:
        notes.append(
            f"the engine lists {layers.plugins} of its {plugins} plugins; compare it on real "
            "frames: edgedetr device check"
        )
    return notes


def _runner(report: EngineReport, options: EngineOptions) -> str:
    """Name what runs the engine as the preflight reads it: the builder, or later ones too."""
    return report.builder.replace("==", ">=" if options.version_compatible else "==")


def _claimed(path: Path, output: Path) -> set[str]:
    kind = read_manifest(path).kind if manifest_path(path).is_file() else ""
    return claims([path.name, output.name], kind)
