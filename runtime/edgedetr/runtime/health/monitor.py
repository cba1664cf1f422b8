"""Whether the detections can be trusted: alarms from a window of frames, with hysteresis.

::

    monitor = HealthMonitor(classes=3, digest=read_digest(path), on_change=print)
    monitor.observe(frame.image, found, latency_ms=12.0)
    monitor.report().state

An alarm rises after `Limits.rise` bad frames in a row and falls after `Limits.fall` good ones. An
image that shows nothing (black, blind, white, frozen) and a model that fails is ``FAILED``; what is
unlike calibration or late is ``DEGRADED``.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health.digest import figures_of_frame
from edgedetr.runtime.health.image_figures import CameraProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.runtime.health.digest import FrameFigures, HealthDigest
    from edgedetr.runtime.health.image_figures import CameraFigures
    from edgedetr.runtime.types import Detections


class Health(IntEnum):
    """How much the detections can be trusted; the number is what Prometheus sees."""

    OK = 0
    DEGRADED = 1
    FAILED = 2


@dataclass(frozen=True)
class Limits:
    """Limits of the alarms.

    Attributes:
        window: Frames that figures are averaged over.
        rise: Bad frames in a row that raise an alarm.
        fall: Good frames in a row that end it.
        darkest: Lowest mean grey level.
        brightest: Highest mean grey level.
        least_contrast: Lowest deviation of the grey level.
        least_sharpness: Lowest `CameraFigures.sharpness`.
        jump: Largest move of the view between two frames, as a fraction of its size.
        jump_hold: Frames for which a jump stays an alarm: no figure shows that the camera is back.
        drift: Largest distance from calibration, in its standard deviations.
        layout_drift: Likewise of the layout of light.
        turned: By how much the layout may correlate better with calibration's when that is turned.
        divergence: Largest Jensen-Shannon divergence of the histograms from calibration's.
        late_share: Largest share of the window's frames that were late or dropped.
        age_ms: Largest mean age of a frame when it is detected in; None where ages are not known.
        clipped_share: Largest share of INT8 activations that were clipped.
    """

    window: int = 15
    rise: int = 5
    fall: int = 30
    darkest: float = 8.0
    brightest: float = 247.0
    least_contrast: float = 6.0
    least_sharpness: float = 2.5
    jump: float = 0.08
    jump_hold: int = 300
    drift: float = 5.0
    layout_drift: float = 1.5
    turned: float = 0.12
    divergence: float = 0.4
    late_share: float = 0.2
    age_ms: float | None = None
    clipped_share: float = 0.002

    def __post_init__(self) -> None:
        if min(self.window, self.rise, self.fall) < 1:
            raise ValueError("window, rise and fall of health limits must be at least 1")


@dataclass(frozen=True)
class HealthReport:
    """State, alarms and figures of a monitor.

    Attributes:
        state: The worst of the alarms.
        alarms: What is wrong, by name, with how bad it is.
        drifts: Distances from calibration, see `HealthDigest.drifts`; empty without a digest.
        latency_ms: Mean over the window.
        age_ms: Mean age of the window's frames, where it is known.
        late_share: Share of the window's frames that were late or dropped.
        clipped_share: Of the last sampled frame; None where none was.
        frames: Frames seen so far.
    """

    state: Health
    alarms: Mapping[str, Health]
    drifts: Mapping[str, float]
    latency_ms: float
    age_ms: float | None
    late_share: float
    clipped_share: float | None
    frames: int


@dataclass
class _Alarm:
    """Counts bad and good frames in a row."""

    is_up: bool = False
    bad: int = 0
    good: int = 0

    def update(self, limits: Limits, *, is_bad: bool) -> None:
        self.bad, self.good = (self.bad + 1, 0) if is_bad else (0, self.good + 1)
        self.is_up = self.bad >= limits.rise or (self.is_up and self.good < limits.fall)


@dataclass(frozen=True, eq=False)
class _Seen:
    figures: FrameFigures
    latency_ms: float
    age_ms: float | None
    is_late: bool


SEVERITY = {
    "black": Health.FAILED,
    "white": Health.FAILED,
    "blind": Health.FAILED,
    "frozen": Health.FAILED,
    "backend": Health.FAILED,
    "moved": Health.DEGRADED,
    "late": Health.DEGRADED,
    "old": Health.DEGRADED,
    "clipped": Health.DEGRADED,
}
"""How bad each alarm is; each drift from calibration, ``drift_<figure>``, is ``DEGRADED``."""


@dataclass(eq=False)
class HealthMonitor:
    """Watches one camera and its detector; safe to read from another thread.

    Attributes:
        classes: How many classes the model knows.
        digest: Of the calibration frames; without one there are no alarms for drift.
        limits: Limits of the alarms.
        on_change: Called with the report when the state changes.

    Raises:
        ArtifactError: If the digest is of a model of another number of classes.
    """

    classes: int
    digest: HealthDigest | None = None
    limits: Limits = field(default_factory=Limits)
    on_change: Callable[[HealthReport], object] | None = None

    def __post_init__(self) -> None:
        if self.digest is not None and len(self.digest.class_counts) != self.classes:
            raise ArtifactError(
                f"the digest and the model differ in their number of classes, "
                f"{len(self.digest.class_counts)} and {self.classes}; make another with edgedetr "
                "calib digest"
            )
        self._probe = CameraProbe()
        self._window: deque[_Seen] = deque(maxlen=self.limits.window)
        self._alarms: dict[str, _Alarm] = {}
        self._held = 0
        self._drifts: dict[str, float] = {}
        self._clipped: float | None = None
        self._frames = 0
        self._lock = threading.Lock()

    def observe(
        self,
        image: NDArray[np.uint8],
        found: Detections,
        *,
        latency_ms: float,
        age_ms: float | None = None,
        is_late: bool = False,
    ) -> Health:
        """Take in a frame and its detections.

        Args:
            image: The camera's pixels, uint8 RGB (H, W, 3).
            found: What the detector found in them.
            latency_ms: How long that took.
            age_ms: How old the frame was then.
            is_late: Whether it missed its deadline, or frames before it were dropped.
        """
        camera = self._probe(image)
        seen = _Seen(figures_of_frame(camera, found, self.classes), latency_ms, age_ms, is_late)
        with self._lock:
            before = self._state()
            self._frames += 1
            self._window.append(seen)
            bad = {**self._bad_image(camera), **self._bad_window(), "backend": False}
            self._update(bad)
            after = self._state()
        self._call_back(before, after)
        return after

    def observe_failure(self) -> Health:
        """Take in a frame on which the backend failed."""
        with self._lock:
            before = self._state()
            self._frames += 1
            self._update({"backend": True})
            after = self._state()
        self._call_back(before, after)
        return after

    def observe_clipping(self, share: float) -> None:
        """Take in the share of INT8 activations that a sampled frame clipped, in [0, 1]."""
        with self._lock:
            self._clipped = share

    def report(self) -> HealthReport:
        """Return the present state, alarms and figures."""
        with self._lock:
            window = list(self._window)
            ages = [s.age_ms for s in window if s.age_ms is not None]
            up = {name: _severity(name) for name, alarm in self._alarms.items() if alarm.is_up}
            return HealthReport(
                state=self._state(),
                alarms=up,
                drifts=dict(self._drifts),
                latency_ms=_mean([s.latency_ms for s in window]),
                age_ms=_mean(ages) if ages else None,
                late_share=_mean([s.is_late for s in window]),
                clipped_share=self._clipped,
                frames=self._frames,
            )

    def _state(self) -> Health:
        up = (_severity(name) for name, alarm in self._alarms.items() if alarm.is_up)
        return max(up, default=Health.OK)

    def _update(self, bad: Mapping[str, bool]) -> None:
        for name, is_bad in bad.items():
            self._alarms.setdefault(name, _Alarm()).update(self.limits, is_bad=is_bad)

    def _call_back(self, before: Health, after: Health) -> None:
        if self.on_change is not None and before != after:
            self.on_change(self.report())

    def _bad_image(self, camera: CameraFigures) -> dict[str, bool]:
        limits = self.limits
        if max(map(abs, camera.moved)) > limits.jump:
            self._held = limits.jump_hold
        self._held = max(0, self._held - 1)
        is_black = camera.brightness < limits.darkest
        is_white = camera.brightness > limits.brightest
        is_flat = camera.contrast < limits.least_contrast
        is_dull = camera.sharpness < limits.least_sharpness
        return {
            "black": is_black,
            "white": is_white,
            "blind": not (is_black or is_white) and (is_flat or is_dull),
            "frozen": camera.is_frozen,
            "moved": self._held > 0,
        }

    def _bad_window(self) -> dict[str, bool]:
        limits = self.limits
        window = list(self._window)
        ages = [s.age_ms for s in window if s.age_ms is not None]
        is_old = limits.age_ms is not None and bool(ages) and _mean(ages) > limits.age_ms
        bad = {
            "late": _mean([s.is_late for s in window]) > limits.late_share,
            "old": is_old,
            "clipped": self._clipped is not None and self._clipped > limits.clipped_share,
        }
        if self.digest is not None and len(window) == limits.window:
            self._drifts = self.digest.drifts([s.figures for s in window])
            bad |= {f"drift_{k}": v > self._most(k) for k, v in self._drifts.items()}
        return bad

    def _most(self, drift: str) -> float:
        limits = self.limits
        own = {"layout": limits.layout_drift, "turned": limits.turned}
        own |= dict.fromkeys(("classes", "sizes"), limits.divergence)
        return own.get(drift, limits.drift)


def _severity(alarm: str) -> Health:
    return SEVERITY.get(alarm, Health.DEGRADED)


def _mean(values: list[float] | list[bool]) -> float:
    return float(sum(values)) / len(values) if values else 0.0
