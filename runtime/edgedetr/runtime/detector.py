"""The detector of the vehicle: a frame in, detections out."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from enum import Enum
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError, BackendError, BackendGoneError, UsageError
from edgedetr.runtime.inference.loaded_model import LoadedModel
from edgedetr.runtime.inference.opening import open_in_time
from edgedetr.runtime.inference.pipeline import Pipeline
from edgedetr.runtime.inference.watchdog import wait_for_left_alone
from edgedetr.runtime.package.counter import CounterKeeper
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.timing import StageTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from edgedetr.runtime.inference.loaded_model import Prepared
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections, Frame

BACKEND = ""
"""What suits the file, see `edgedetr.runtime.backend_lookup.suited_backend`, or the package."""
FAILURES_IN_A_ROW = 3
"""After how many failed frames in a row a detector counts as failed."""
TIME_LIMIT_S = 10.0
"""How long a backend may take for one frame unless the caller says otherwise."""

_open: weakref.WeakSet[Detector] = weakref.WeakSet()


class State(Enum):
    """Whether a detector works; after `FAILED` it is `OK` again as soon as a frame is answered."""

    OK = "ok"
    FAILED = "failed"


class Detector:
    """Finds objects in frames with one model; safe to call from several threads.

    ::

        with Detector.open("student.onnx") as detector:
            detections = detector.detect(Frame(image))

    It works in the process that opened it: after a fork the child opens one of its own. What is
    still open when the program ends is closed then.

    The network runs on a thread of its own, so that a backend that hangs does not block the caller:
    after ``time_limit_s`` the call raises `StuckError`, and so does every later one until `swap`.

    Attributes:
        threshold: Lowest score that counts, in [0, 1].
        failures: How many frames the backend failed on.
    """

    def __init__(
        self, session: Session, threshold: float = 0.3, *, time_limit_s: float = TIME_LIMIT_S
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        self.threshold = threshold
        self.failures = 0
        self._failures_in_a_row = 0
        self._times = StageTimes()
        self._lock = threading.Lock()  # its holder has the model to itself
        self._door = threading.Lock()  # held for moments, so that `submit` waits for no frame
        self._pipeline: Pipeline[Prepared] | None = None
        self._is_closed = False
        self._process = os.getpid()
        self._model = LoadedModel(session, threshold, time_limit_s)
        _open.add(self)

    @classmethod
    def open(  # noqa: PLR0913 - what there is to know of a model
        cls,
        path: str | os.PathLike[str],
        backend: str = BACKEND,
        threshold: float = 0.3,
        spec: ModelSpec | None = None,
        *,
        model: str = "",
        public_key: str | os.PathLike[str] | None = None,
        require_signature: bool = True,
        state: str | os.PathLike[str] | None = None,
        steady: bool = False,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> Self:
        """Verify an ONNX file, an engine or a package, load it and warm it up.

        Args:
            path: File, package or bundled detector (``road``). A manifest beside it must match.
            backend: A file in ``backends/``; ``auto`` measures; empty for what suits the file.
            threshold: Lowest score that counts, in [0, 1].
            spec: Replaces the spec stored in a file, for foreign models.
            model: Name of a model in a package; its first engine that fits this machine when
                empty, or its first ONNX model where none does.
            public_key: PEM file of the key that must have signed a package.
            require_signature: Whether a package must be signed.
            state: Folder that keeps the highest counter of a signed package; lower are refused.
            steady: Whether threads of the CPU that wait sleep instead of spinning: slower where the
                machine is idle, and much faster where it does other work, too.
            time_limit_s: How long the backend may take for one frame, in seconds.

        Raises:
            ArtifactError: If the artifact is missing, damaged, of another kind than the backend
                runs, does not match its manifest, is unsigned, of another signer or rolled back.
            GateError: If a package's self-test fails on this machine.
            StuckError: If it does not open within `opening.OPENING_LIMIT_S`.
            UnknownNameError: If there is no such backend.
            UsageError: If a package comes without a key to check it.
        """
        keeper = CounterKeeper(state)
        session = open_in_time(
            path,
            backend,
            spec=spec,
            model=model,
            public_key=public_key,
            require_signature=require_signature,
            state=keeper,
            steady=steady,
        )
        made = cls(session, threshold, time_limit_s=time_limit_s)
        keeper.accept(otherwise=made.close)
        return made

    @property
    def spec(self) -> ModelSpec:
        """The contract of the model."""
        return self._model.spec

    @property
    def backend(self) -> str:
        """What runs the model, for a reader: library, version, device, and how it was chosen."""
        return self._model.session.runs_on

    @property
    def batch(self) -> int:
        """How many frames the model takes at once."""
        return self._model.batch

    @property
    def times(self) -> StageTimes:
        """What was spent so far, without the warm-up."""
        return self._times

    @property
    def state(self) -> State:
        """Whether the backend works: not while it is stuck or failed on the last few frames."""
        failed = self._model.watchdog.is_stuck or self._failures_in_a_row >= FAILURES_IN_A_ROW
        return State.FAILED if failed else State.OK

    def detect(self, frame: Frame) -> Detections:
        """Find the objects of one frame.

        Returns:
            Detections in pixels of the frame, best first; they are the caller's.

        Raises:
            BackendError: If the backend fails on this frame; the next one may succeed.
            DeviceLostError: If the GPU fails until the process ends.
            StuckError: If the backend does not return, or did not before.
            UsageError: After a fork.
            ValueError: If the detector is closed.
        """
        self._refuse_fork()
        with self._lock:
            self._refuse_closed()
            return self._answers([frame], partial(self._feed, [frame]))[0]

    def detect_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Find the objects of several frames, as many at once as the model's batch holds.

        Returns:
            Detections of each frame, in the order of ``frames``.

        Raises:
            BackendError: If the backend fails; then nothing is returned of any frame.
            StuckError: If the backend does not return, or did not before.
            UsageError: After a fork.
            ValueError: If the detector is closed.
        """
        self._refuse_fork()
        found: list[Detections] = []
        while len(found) < len(frames):
            with self._lock:
                self._refuse_closed()
                rows = frames[len(found) : len(found) + self.batch]
                found += self._answers(rows, partial(self._feed, rows))
        return found

    def submit(self, frame: Frame, *, wait: bool = False) -> Future[Detections]:
        """Queue a frame; it is preprocessed while the network runs on the one before.

        At most `pipeline.WAITING_FRAMES` wait. When one more comes, the one that has waited
        longest gives way and its future is cancelled: the newest frames win, and ``submit`` never
        blocks. With ``wait`` it blocks until there is room, and none is lost; the callback of a
        future cannot wait, because it holds up the frames that would make room.

        Args:
            frame: The frame; its image must stay as it is until the future is done.
            wait: Whether to wait for room.

        Returns:
            The detections to come, or what `detect` would raise.

        Raises:
            UsageError: After a fork, or if a future's callback waits.
            ValueError: If the detector is closed.
        """
        self._refuse_fork()
        with self._door:
            self._refuse_closed()
            if self._pipeline is None:
                self._pipeline = Pipeline(self._prepare, self._answer_prepared, self._free)
            pipeline = self._pipeline
        return pipeline.submit(frame, wait=wait)

    def swap(  # noqa: PLR0913 - as in `open`
        self,
        path: str | os.PathLike[str],
        backend: str = BACKEND,
        spec: ModelSpec | None = None,
        *,
        model: str = "",
        public_key: str | os.PathLike[str] | None = None,
        require_signature: bool = True,
        state: str | os.PathLike[str] | None = None,
        steady: bool = False,
    ) -> None:
        """Put another model in place between two frames, while frames are detected.

        It is opened, verified, self-tested and warmed up first, by the calling thread; until then,
        and whenever that fails, the old model stays in use. Input size, resizing and normalisation
        may differ. A stuck detector works again afterwards.

        The arguments are those of `open`; ``state`` keeps the counter once the model is in place.

        Raises:
            ArtifactError: As in `open`, or if the classes are others than the old model's, because
                the meaning of labels would change for their readers.
            GateError: If a package's self-test fails on this machine.
            BackendError: If the backend fails on a blank frame.
            StuckError: If it does not open within `opening.OPENING_LIMIT_S`.
            UsageError: After a fork.
            ValueError: If the detector is closed.
        """
        self._refuse_fork()
        keeper = CounterKeeper(state)
        session = open_in_time(
            path,
            backend,
            spec=spec,
            model=model,
            public_key=public_key,
            require_signature=require_signature,
            state=keeper,
            steady=steady,
        )
        self._put_in_place(session, Path(path), keeper)

    def close(self) -> None:
        """Free the model once the frames at work are done; a second call does nothing more.

        Frames that wait are cancelled and all threads are joined, unless a future's callback makes
        the call: then that happens once it has returned. The thread of a stuck backend is
        abandoned. After a fork this does nothing in the child.
        """
        if os.getpid() != self._process:
            return
        with self._door:
            self._is_closed = True
            pipeline = self._pipeline
        if pipeline is None:
            self._free()
        else:
            pipeline.close()

    def _free(self) -> None:
        with self._lock:
            self._model.close()

    def _put_in_place(self, session: Session, path: Path, keeper: CounterKeeper) -> None:
        new, old = session.spec.class_names, self.spec.class_names
        if new != old:
            session.close()
            raise ArtifactError(
                f"{path} has the classes {', '.join(new)}, the model in use {', '.join(old)}; "
                "open another detector for other classes"
            )
        model = LoadedModel(session, self.threshold, self._model.watchdog.limit_s)
        keeper.accept(otherwise=model.close)
        with self._lock:
            if not self._is_closed:
                self._model, model = model, self._model
                self._failures_in_a_row = 0
        model.close()
        self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise ValueError("the session is closed")

    def _refuse_fork(self) -> None:
        """Stop in a child of the process that opened it, where its threads and locks are dead."""
        if os.getpid() != self._process:
            raise UsageError("the detector was opened in another process; open it after the fork")

    def _prepare(self, frame: Frame) -> Prepared:
        return self._model.prepare(frame.image)

    def _answer_prepared(self, frame: Frame, prepared: Prepared) -> Detections:
        with self._lock:
            feed = partial(self._model.feed_prepared, prepared, frame.image)
            return self._answers([frame], lambda: [feed()], prepared.spent_ns)[0]

    def _feed(self, frames: Sequence[Frame]) -> list[Placement]:
        return [self._model.feed(frame.image, row) for row, frame in enumerate(frames)]

    def _answers(
        self,
        frames: Sequence[Frame],
        feed: Callable[[], Sequence[Placement]],
        prepared_ns: int = 0,
    ) -> list[Detections]:
        """Fill the network's input and run it; the caller holds the lock.

        This is the one place that every frame passes; its input is in ``session.images``.
        """
        model = self._model
        start_ns = perf_counter_ns()
        try:
            places = feed()
            fed_ns = perf_counter_ns()
            logits, boxes = model.watchdog.run(model.session.infer)
            answered_ns = perf_counter_ns()
            found = [
                postprocess(logits[row], boxes[row], place, model.spec, self.threshold)
                for row, place in enumerate(places)
            ]
        except BackendGoneError:
            raise
        except Exception as error:  # backends' errors share no class
            self.failures += len(frames)
            self._failures_in_a_row += len(frames)
            name = frames[0].frame_id or "without a name"
            raise BackendError(f"frame {name} is lost: {error}") from error
        self._failures_in_a_row = 0
        spent = self._times
        self._times = StageTimes(
            spent.frames + len(frames),
            spent.preprocess_ns + prepared_ns + fed_ns - start_ns,
            spent.infer_ns + answered_ns - fed_ns,
            spent.postprocess_ns + perf_counter_ns() - answered_ns,
        )
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _close_all() -> None:
    """End the threads of backends: the interpreter would abort where one still runs."""
    for detector in list(_open):
        detector.close()
    wait_for_left_alone()


atexit.register(_close_all)
