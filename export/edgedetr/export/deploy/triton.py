"""Write a model repository of the Triton Inference Server.

After its documentation: the layout of
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md
and the fields of ``ModelConfig`` in
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
(release 2.49). The batch of a packaged model is fixed, so ``max_batch_size`` is 0 and
``dims`` are whole shapes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgedetr.export.deploy.folder import new_folder, render, write_texts
from edgedetr.export.deploy.servable import labels, open_servable
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.export.deploy.servable import Tensor
    from edgedetr.runtime.package.reader import Package

MODEL = "edgedetr"
"""Name of the model, and of its folder in the repository."""

_KINDS = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
}


def write_repository(package: Package, output: Path, name: str = "") -> None:
    """Write a repository with a model of a package (its first by default), whole or not at all.

    Raises:
        ArtifactError: If Triton cannot serve such a model.
        UsageError: If the folder exists.
    """
    model = open_servable(package, name)
    file = "model.plan" if model.is_engine else "model.onnx"
    values = {
        "model": model,
        "name": MODEL,
        "file": file,
        "backend": "tensorrt" if model.is_engine else "onnxruntime",
        "platform": "tensorrt_plan" if model.is_engine else "onnxruntime_onnx",
        "inputs": [_field(t) for t in model.inputs],
        "outputs": [_field(t) for t in model.outputs],
    }
    files = ("README.md", "config.pbtxt")
    readme, config = (render("triton", n, values, quoted=quoted) for n in files)
    with new_folder(output) as folder:
        (folder / MODEL / "1").mkdir(parents=True)
        model.copy(folder / MODEL / "1" / file)
        write_texts(folder, {"README.md": readme})
        write_texts(folder / MODEL, {"config.pbtxt": config, "labels.txt": labels(model.spec)})


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
