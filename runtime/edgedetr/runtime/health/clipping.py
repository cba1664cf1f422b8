"""Measure the share of INT8 activations that a frame clips."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.inference.watchdog import Watchdog
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import METADATA_KEY, spec_from_json

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

SHARE_NAME = "clipped_share"
"""Name of the graph's output."""
_TRIAL_LIMIT_S = 60.0


class ClippingProbe:
    """Runs the graph that ``edgedetr export clipping`` wrote, with one thread of ONNX Runtime.

    Raises:
        ArtifactError: If the file is missing, damaged or another model, or does not measure a
            blank image.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import onnxruntime

        from edgedetr.runtime.backends.onnxruntime import CPU, session_options

        path = Path(path)
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; make it: edgedetr export clipping")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), session_options(threads=1), providers=[CPU]
            )
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise ArtifactError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        stored = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        names = [output.name for output in self._session.get_outputs()]
        if stored is None or names != [SHARE_NAME]:
            raise ArtifactError(
                f"{path} is not a clipping graph; make it: edgedetr export clipping"
            )
        spec = spec_from_json(stored, str(path))
        self._name = spec.input_name
        self._preprocess = Preprocessor(spec)
        self._images = np.empty((1, 3, *spec.input_hw), np.float32)
        self._try(np.zeros((*spec.input_hw, 3), np.uint8), path)

    def __call__(self, image: NDArray[np.uint8]) -> float:
        """Return the mean share, in [0, 1], over the quantized activations of an RGB image."""
        self._preprocess(image, self._images[0])
        [share] = self._session.run(None, {self._name: self._images})
        return float(np.asarray(share))

    def _try(self, image: NDArray[np.uint8], path: Path) -> None:
        watchdog = Watchdog(_TRIAL_LIMIT_S)
        try:
            share = watchdog.run(partial(self, image))
        except Exception as error:
            raise ArtifactError(
                f"{path} cannot measure a blank image, make it again with edgedetr export "
                f"clipping: {error}"
            ) from error
        finally:
            watchdog.close()
        if not 0 <= share <= 1:
            raise ArtifactError(
                f"{path} outputs {share:g}, wanted a share in [0, 1]; make it again"
            )
