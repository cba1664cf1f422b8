"""Write parameters and a launch file for Isaac ROS' RT-DETR and TensorRT nodes.

After the documentation of the packages: parameters and topics of
https://nvidia-isaac-ros.github.io/repositories_and_packages/isaac_ros_object_detection/isaac_ros_rtdetr/index.html,
.../isaac_ros_dnn_inference/isaac_ros_tensor_rt/index.html and
.../isaac_ros_image_pipeline/isaac_ros_image_proc/index.html, and the graph of
``isaac_ros_rtdetr_core.launch.py`` in NVIDIA-ISAAC-ROS/isaac_ros_object_detection. Its decoder
reads int64 labels, scores, and corners in pixels.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgedetr.export.deploy.folder import new_folder, refuse_antialias, render, write_texts
from edgedetr.export.deploy.servable import THRESHOLD, labels, open_servable
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import BRIGHTEST

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.deploy.servable import Servable
    from edgedetr.runtime.package.reader import Package

PARAMETERS, LAUNCH = "edgedetr.yaml", "edgedetr.launch.py"
FILES = ("README.md", PARAMETERS, LAUNCH, "labels.txt")
"""What is generated beside the model's file."""


def write_graph(package: Package, output: Path, name: str = "") -> None:
    """Write the folder for a model of a package (its first by default), whole or not at all.

    Raises:
        ArtifactError: If the nodes cannot feed such a model.
        UsageError: If the folder exists.
    """
    model = open_servable(package, name)
    refuse_antialias(model.spec, "Isaac ROS")
    if model.batch != 1:
        raise ArtifactError(
            f"{model.path.name} takes {model.batch} images at once, and the graph of Isaac ROS "
            "feeds one; export it with --batch 1"
        )
    with new_folder(output) as folder:
        model.copy(folder / ("model.plan" if model.is_engine else "model.onnx"))
        write_texts(folder, texts(model))


def is_decoded(model: Servable) -> bool:
    """Return whether Isaac ROS' own decoder reads the outputs of a model."""
    spec = model.spec
    read = (spec.activation, spec.box_format, spec.box_unit)
    kinds = [t.kind for t in model.outputs]
    fits = read == ("sigmoid", "xyxy", "pixels") and kinds == ["FLOAT", "FLOAT", "INT64"]
    return bool(spec.labels_name) and fits


def texts(model: Servable) -> dict[str, str]:
    """Return the text of each of `FILES`."""
    spec = model.spec
    values = {
        "model": model,
        "spec": spec,
        "is_decoded": is_decoded(model),
        "mean": [BRIGHTEST * m for m in spec.mean],
        "std": [BRIGHTEST * s for s in spec.std],
        "threshold": THRESHOLD,
    }
    rendered = {n: render("isaac_ros", n, values, quoted=quoted) for n in FILES[:-1]}
    return {**rendered, "labels.txt": labels(spec)}


def quoted(value: str | tuple[str, ...]) -> str:
    """Return text, or a list of texts, as YAML and Python both read it.

    >>> quoted(("a", "b"))
    '["a", "b"]'
    """
    return json.dumps(value)
