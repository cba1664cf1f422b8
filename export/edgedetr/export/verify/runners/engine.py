"""Run an engine as the vehicle does, to compare it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.graph.exact import coarsest_precision
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.cuda.preflight import builder_of
from edgedetr.runtime.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.export.verify.query_ties import Outputs
    from edgedetr.graph.exact import Precision
    from edgedetr.runtime.manifest import Manifest
    from edgedetr.runtime.spec import ModelSpec


class EngineRunner:
    """An engine on this machine's GPU, in the library that its manifest names.

    It has the precision of the ONNX file that it was built from, where that lies beside it; without
    that file it is held to the limits of FP32. The runtime takes engines of one image only.

    Raises:
        ArtifactError: If the engine or its manifest is missing, damaged or for another machine.
        BackendError: If there is no GPU.
        UsageError: If the library or pycuda is not installed.
    """

    batch_sizes: tuple[int, ...] = (1,)

    def __init__(self, path: Path, spec: ModelSpec | None = None) -> None:
        manifest = read_manifest(path)
        self._session = backend(builder_of(manifest, path)).open_session(path, spec)
        self.spec = self._session.spec
        self.precision: Precision = _precision(path, manifest)

    def __call__(self, images: NDArray[np.float32]) -> Outputs:
        """Run the engine on images (1, 3, H, W); see `edgedetr.export.verify.runner.Runner`."""
        self._session.images[:] = images
        return self._session.infer()


def _precision(path: Path, manifest: Manifest) -> Precision:
    """Return the precision of the ONNX file that an engine was built from."""
    beside = [path.with_name(parent.name) for parent in manifest.parents]
    models = [p for p in beside if p.suffix == ".onnx" and p.is_file()]
    return coarsest_precision(load_onnx(models[0])) if models else "fp32"
