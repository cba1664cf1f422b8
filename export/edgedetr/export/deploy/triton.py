"""Write a model repository of the Triton Inference Server.

After its documentation: the layout of
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md
and the fields of ``ModelConfig`` in
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
(release 2.49). The batch of a packaged model is fixed, so ``max_batch_size`` is 0 and
``dims`` are whole shapes. The ensemble is as in
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/architecture.md and its
Python models as in https://github.com/triton-inference-server/python_backend.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from edgedetr.export.deploy.folder import new_folder, render, write_texts
from edgedetr.export.deploy.servable import DYNAMIC, THRESHOLD, Tensor, labels, open_servable
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedetr.export.deploy.servable import Servable
    from edgedetr.runtime.package.reader import Package

MODEL = "edgedetr"
"""Name of the network, and of its folder in the repository."""
DETECTOR = f"{MODEL}_detector"
"""Name of the ensemble: an image in, detections out."""
PREPROCESS, POSTPROCESS = f"{MODEL}_preprocess", f"{MODEL}_postprocess"
"""Names of the ensemble's first and last model, in Python."""

_KINDS = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "UINT8": "TYPE_UINT8",
}
_IMAGE = Tensor("image", "UINT8", (DYNAMIC, DYNAMIC, 3))
_IMAGE_HW = Tensor("image_hw", "INT64", (2,))
_DETECTIONS = (
    Tensor("boxes", "FLOAT", (DYNAMIC, 4)),
    Tensor("scores", "FLOAT", (DYNAMIC,)),
    Tensor("labels", "INT64", (DYNAMIC,)),
)


def write_repository(package: Package, output: Path, name: str = "") -> None:
    """Write a repository with a model of a package (its first by default), whole or not at all.

    A model of one image gets an ensemble around it, which takes an image and returns detections.

    Raises:
        ArtifactError: If Triton cannot serve such a model.
        UsageError: If the folder exists.
    """
    model = open_servable(package, name)
    is_whole = model.batch == 1
    file = "model.plan" if model.is_engine else "model.onnx"
    values = {
        "model": model,
        "name": MODEL,
        "file": file,
        "detector": DETECTOR,
        "is_whole": is_whole,
        "threshold": THRESHOLD,
    }
    network = _config(
        MODEL,
        model.inputs,
        model.outputs,
        backend="tensorrt" if model.is_engine else "onnxruntime",
        platform="tensorrt_plan" if model.is_engine else "onnxruntime_onnx",
        file=file,
        kind="KIND_GPU" if model.is_engine else "KIND_AUTO",
    )
    readme = render("triton", "README.md", values, quoted=quoted)
    with new_folder(output) as folder:
        (folder / MODEL / "1").mkdir(parents=True)
        model.copy(folder / MODEL / "1" / file)
        write_texts(folder, {"README.md": readme})
        write_texts(folder / MODEL, {"config.pbtxt": network, "labels.txt": labels(model.spec)})
        if is_whole:
            _write_ensemble(folder, model)


def _write_ensemble(folder: Path, model: Servable) -> None:
    """Write what stands before and behind the network, and what joins the three."""
    images, outputs = model.inputs[0], model.outputs
    values = {
        "images": images.name,
        "outputs": json.dumps([t.name for t in outputs]),
        "threshold": THRESHOLD,
    }
    ends: dict[str, tuple[Sequence[Tensor], Sequence[Tensor]]] = {
        PREPROCESS: ([_IMAGE], [images, _IMAGE_HW]),
        POSTPROCESS: ([*outputs, _IMAGE_HW], _DETECTIONS),
    }
    for name, (taken, given) in ends.items():
        script = render("triton", f"{name.rpartition('_')[2]}.py", values, quoted=json.dumps)
        (folder / name / "1").mkdir(parents=True)
        write_texts(folder / name / "1", {"model.py": script, "spec.json": model.spec.to_json()})
        config = _config(name, taken, given, backend="python", kind="KIND_CPU")
        write_texts(folder / name, {"config.pbtxt": config})
    wired = {PREPROCESS: ends[PREPROCESS], MODEL: ([images], outputs)}
    wired[POSTPROCESS] = ends[POSTPROCESS]
    steps = [_step(name, *tensors) for name, tensors in wired.items()]
    (folder / DETECTOR / "1").mkdir(parents=True)
    config = _config(DETECTOR, [_IMAGE], _DETECTIONS, platform="ensemble", steps=steps)
    write_texts(folder / DETECTOR, {"config.pbtxt": config, "labels.txt": labels(model.spec)})


def _step(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, object]:
    """Describe a step of the ensemble, whose tensors between models are called network_NAME."""
    ends = {_IMAGE.name} if name == PREPROCESS else set()
    given = {t.name for t in _DETECTIONS} if name == POSTPROCESS else set()
    return {
        "model": name,
        "inputs": {t.name: t.name if t.name in ends else f"network_{t.name}" for t in inputs},
        "outputs": {t.name: t.name if t.name in given else f"network_{t.name}" for t in outputs},
    }


def _config(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], **fields: object
) -> str:
    """Return a ``config.pbtxt``."""
    values = {
        "name": name,
        "inputs": [_field(t) for t in inputs],
        "outputs": [_field(t) for t in outputs],
        **dict.fromkeys(("platform", "backend", "file", "kind", "steps"), ""),
        **fields,
    }
    return render("triton", "config.pbtxt", values, quoted=quoted)


def quoted(text: str) -> str:
    r"""Return a string of protobuf's text format.

    >>> print(quoted('a "b" \\'))
    "a \"b\" \\"
    """
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _field(tensor: Tensor) -> dict[str, object]:
    if tensor.kind not in _KINDS:
        raise ArtifactError(
            f"{tensor.name} is of type {tensor.kind}, wanted one of {', '.join(_KINDS)}"
        )
    return {"name": tensor.name, "kind": _KINDS[tensor.kind], "dims": tensor.shape}
