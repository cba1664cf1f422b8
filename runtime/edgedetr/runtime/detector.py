"""The detector of the vehicle: a frame in, detections out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.backends import backend as find_backend
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from edgedetr.runtime.backends import Session
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections

_WARM_UP_FRAMES = 2


@dataclass(frozen=True)
class StageTimes:
    """What a detector spent on its frames so far, in nanoseconds."""

    frames: int = 0
    preprocess_ns: int = 0
    infer_ns: int = 0
    postprocess_ns: int = 0


class Detector:
    """Finds objects in frames with one model; safe to call from several threads.

    ::

        with Detector.open(Path("student.onnx")) as detector:
            detections = detector.detect(Frame(image))

    Attributes:
        threshold: Lowest score that counts, in [0, 1].
    """

    def __init__(self, session: Session, threshold: float = 0.3) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        self.threshold = threshold
        self._session = session
        self._preprocess = Preprocessor(session.spec)
        self._lock = threading.Lock()
        self._times = StageTimes()
        blank = Frame(np.zeros((*session.spec.input_hw, 3), np.uint8))
        for _ in range(_WARM_UP_FRAMES):
            self.detect(blank)
        self._times = StageTimes()

    @classmethod
    def open(
        cls,
        path: Path,
        backend: str = "onnxruntime",
        threshold: float = 0.3,
        spec: ModelSpec | None = None,
    ) -> Self:
        """Load an artifact and warm it up.

        Args:
            path: The artifact. A manifest beside it must match it.
            backend: Name of a file in ``backends/``.
            threshold: Lowest score that counts, in [0, 1].
            spec: Replaces the spec stored in the artifact, for foreign models.

        Raises:
            ArtifactError: If the artifact is missing, damaged, of another kind than the backend
                runs, or does not match its manifest.
            UnknownNameError: If there is no such backend.
        """
        module = find_backend(backend)
        if path.suffix not in module.SUFFIXES:
            wanted = " or ".join(module.SUFFIXES)
            raise ArtifactError(f"{path}: {backend} runs {wanted} files; export the model first")
        if manifest_path(path).is_file():
            read_manifest(path)
        return cls(module.open_session(path, spec), threshold)

    @property
    def spec(self) -> ModelSpec:
        """The contract of the model."""
        return self._session.spec

    @property
    def times(self) -> StageTimes:
        """What was spent so far, without the warm-up."""
        return self._times

    def detect(self, frame: Frame) -> Detections:
        """Find the objects of one frame.

        Returns:
            Detections in pixels of the frame, best first; they are the caller's.

        Raises:
            ArtifactError: If the model answers with numbers that are not finite.
            ValueError: If the detector is closed.
        """
        with self._lock:
            start_ns = perf_counter_ns()
            place = self._preprocess(frame.image, self._session.images[0])
            fed_ns = perf_counter_ns()
            logits, boxes = self._session.infer()
            answered_ns = perf_counter_ns()
            found = postprocess(logits[0], boxes[0], place, self.spec, self.threshold)
            spent = self._times
            self._times = StageTimes(
                spent.frames + 1,
                spent.preprocess_ns + fed_ns - start_ns,
                spent.infer_ns + answered_ns - fed_ns,
                spent.postprocess_ns + perf_counter_ns() - answered_ns,
            )
            return found

    def close(self) -> None:
        """Free the model once the frame at work is done; a second call does nothing."""
        with self._lock:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
