"""A loaded model with its preprocessing, buffers and watchdog, swapped as one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from edgedetr.runtime.errors import StuckError
from edgedetr.runtime.inference.freed_memory import return_freed_memory
from edgedetr.runtime.inference.watchdog import Watchdog
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.session import Session
    from edgedetr.runtime.spec import ModelSpec

    DeviceFeed = Callable[[NDArray[np.uint8]], Placement]

OPENING_LIMIT_S = 600.0
"""How long a model may take to open, and its backend for a frame of the warm-up, in seconds.

Some backends build an engine first, which takes minutes.
"""

_WARM_UP_FRAMES = 2


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame in a spare buffer: of which model, where it lies there, and what that took.

    There is neither buffer nor place where the device preprocesses.
    """

    model: LoadedModel
    buffer: NDArray[np.float32] | None = None
    place: Placement | None = None
    spent_ns: int = 0


class LoadedModel:
    """A session, the thread that runs it, and two input buffers: the session's own and a spare.

    Attributes:
        session: The model; its ``images`` are the first buffer.
        batch: How many frames it takes at once.
        watchdog: Runs the session.
    """

    def __init__(self, session: Session, threshold: float, time_limit_s: float) -> None:
        """Warm the session up within `OPENING_LIMIT_S`; close it if that fails."""
        self.session = session
        self.watchdog = Watchdog(time_limit_s)
        self._preprocess = Preprocessor(session.spec)
        self._preprocess_spare = Preprocessor(session.spec)
        self._device_feed: DeviceFeed | None = getattr(session, "feed", None)
        self._spare: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
        images = session.images  # not read again: an engine then forgets the frame that it was fed
        self.batch = len(images)
        self._spare.put(np.empty_like(images[0]))
        blank = np.zeros((*self.spec.input_hw, 3), np.uint8)
        try:
            for _ in range(_WARM_UP_FRAMES):
                place = self.feed(blank)
                logits, boxes = self.watchdog.run(session.infer, limit_s=OPENING_LIMIT_S)
                postprocess(logits[0], boxes[0], place, self.spec, threshold)
        except BaseException:
            self.close()
            raise

    @property
    def spec(self) -> ModelSpec:
        """The contract of the model."""
        return self.session.spec

    def feed(self, image: NDArray[np.uint8], row: int = 0) -> Placement:
        """Preprocess an image into a row of the session's buffer; one thread at a time.

        Raises:
            StuckError: If the device preprocesses and does not return.
        """
        if self._device_feed is not None:
            return self.watchdog.run(partial(self._device_feed, image))
        return self._preprocess(image, self.session.images[row])

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Preprocess an image into the spare buffer, once that is free; one thread at a time."""
        if self._device_feed is not None:
            return Prepared(self)
        buffer = self._spare.get()
        try:
            start_ns = perf_counter_ns()
            place = self._preprocess_spare(image, buffer)
            return Prepared(self, buffer, place, perf_counter_ns() - start_ns)
        except BaseException:
            self._spare.put(buffer)
            raise

    def feed_prepared(self, prepared: Prepared, image: NDArray[np.uint8]) -> Placement:
        """Move what was prepared into the session's buffer and free the spare.

        If it was prepared for another model, this one preprocesses the image again.
        """
        buffer, place = prepared.buffer, prepared.place
        try:
            if prepared.model is not self or buffer is None or place is None:
                return self.feed(image)
            np.copyto(self.session.images[0], buffer)
            return place
        finally:
            if buffer is not None:
                prepared.model._spare.put(buffer)  # noqa: SLF001 - it is of this class

    def close(self) -> None:
        """Free the session, unless it is stuck; a second call does nothing."""
        if self.watchdog.is_closed:
            return
        with contextlib.suppress(StuckError):  # to free what a driver still uses would crash
            self.watchdog.run(self.session.close)
        self.watchdog.close()
        return_freed_memory()
