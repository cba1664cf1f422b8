"""Write what DeepStream's Gst-nvinfer needs: configuration, labels and the parser of the outputs.

After its documentation: the keys of
https://docs.nvidia.com/metropolis/deepstream/dev-guide/text/DS_plugin_gst-nvinfer.html, where
``y = net-scale-factor * (x - offsets)`` with one factor for all channels, and the structures of
``nvdsinfer.h`` and ``nvdsinfer_custom_impl.h`` in its SDK API reference (8.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.export.deploy.folder import new_folder, refuse_antialias, render, write_texts
from edgedetr.export.deploy.servable import THRESHOLD, labels, open_servable
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import BRIGHTEST

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.deploy.servable import Servable
    from edgedetr.runtime.package.reader import Package
    from edgedetr.runtime.spec import ModelSpec

CONFIG, PARSER = "config_infer_primary.txt", "nvdsinfer_custom_edgedetr.cpp"
FILES = ("README.md", CONFIG, PARSER, "Makefile", "labels.txt")
"""What is generated beside the model's file."""

_MODES = {"fp32": 0, "int8": 1, "fp16": 2, "fp8": 2}
"""nvinfer's network-mode; it has none for FP8, and reads it where it builds an engine itself."""


def write_pipeline(package: Package, output: Path, name: str = "") -> None:
    """Write the folder for a model of a package (its first by default), whole or not at all.

    Raises:
        ArtifactError: If nvinfer cannot feed such a model.
        UsageError: If the folder exists.
    """
    model = open_servable(package, name)
    _check(model)
    with new_folder(output) as folder:
        model.copy(folder / _file(model))
        write_texts(folder, texts(model))


def texts(model: Servable) -> dict[str, str]:
    """Return the text of each of `FILES`."""
    spec = model.spec
    values = {
        "model": model,
        "spec": spec,
        "file": _file(model),
        "mode": _mode(model),
        "scale": repr(1 / (BRIGHTEST * spec.std[0])),
        "offsets": ";".join(repr(BRIGHTEST * m) for m in spec.mean),
        "no_object": -1 if spec.no_object is None else spec.no_object % spec.columns,
        "threshold": THRESHOLD,
    }
    rendered = {name: render("deepstream", name, values) for name in FILES[:-1]}
    return {**rendered, "labels.txt": labels(spec)}


def _mode(model: Servable) -> int:
    """Return nvinfer's network-mode, which it reads where it builds an engine itself."""
    if model.precision == "fp8" and not model.is_engine:
        raise ArtifactError(
            "nvinfer builds no engine of FP8; give it the one that edgedetr export engine builds"
        )
    return _MODES[model.precision]


def _file(model: Servable) -> str:
    return "model.engine" if model.is_engine else "model.onnx"


def _check(model: Servable) -> None:
    spec: ModelSpec = model.spec
    if len(set(spec.std)) > 1:
        raise ArtifactError(
            f"the spec has std {list(spec.std)}, and nvinfer has one scale for all channels; "
            "export a model that was trained with one std"
        )
    refuse_antialias(spec, "nvinfer")
    if spec.labels_name:
        raise ArtifactError(
            f"the spec has labels_name = {spec.labels_name!r}, which the parser for nvinfer does "
            "not read; export a model that outputs the scores of every class"
        )
    names = (spec.input_name, *spec.output_names)
    if odd := [n for n in names if not n.isascii() or not n.isprintable() or set(n) & set('";\\')]:
        raise ArtifactError(f"nvinfer's configuration cannot name the tensor {odd[0]!r}; rename it")
    if kinds := [t for t in model.outputs if t.kind != "FLOAT"]:
        raise ArtifactError(f"{kinds[0].name} is of type {kinds[0].kind}, wanted FLOAT")
