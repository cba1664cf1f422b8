"""Alarms rise when a camera or a model fails, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health.digest import digest_of, figures_of_frame
from edgedetr.runtime.health.image_figures import CameraProbe
from edgedetr.runtime.health.monitor import Health, HealthMonitor, HealthReport, Limits
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.types import Detections

if TYPE_CHECKING:
    from collections.abc import Callable

WITHIN = 30
"""Frames within which a failed camera must be reported."""


def found_in(number, count=3):
    """Make detections that vary a little from frame to frame."""
    rng = np.random.default_rng(number)
    count = max(0, count + int(rng.integers(-1, 2)))
    corners = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 90, (count, 2))], axis=1)
    scores = np.sort(rng.uniform(0.4, 0.95, count))[::-1]
    return Detections(
        boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, 3, count)
    )


@pytest.fixture(scope="module")
def digest(drive):
    """The digest of 60 frames from all over the drive."""
    probe = CameraProbe()
    return digest_of(
        figures_of_frame(probe(drive(number)), found_in(number), 3) for number in range(0, 1260, 21)
    )


def frames_until_alarm(monitor, images, start=0):
    for number, image in enumerate(images, 1):
        health = monitor.observe(image, found_in(start + number), latency_ms=10)
        if health:
            return number, health
    return None


def settled(drive, digest, frames=60):
    monitor = HealthMonitor(3, digest)
    for number in range(frames):
        assert monitor.observe(drive(number), found_in(number), latency_ms=10) == Health.OK
    return monitor


@pytest.mark.slow
def test_thousand_ordinary_frames_raise_no_alarm(drive, digest):
    changes: list[HealthReport] = []
    monitor = HealthMonitor(3, digest, on_change=changes.append)
    images = (drive(number) for number in range(1000))
    assert frames_until_alarm(monitor, images) is None
    assert changes == []
    assert monitor.report().frames == 1000
    assert set(monitor.report().drifts) >= {"brightness", "layout", "classes", "sizes"}


FAULTS = {
    "black": (lambda image, _: np.zeros_like(image), "black", Health.FAILED),
    "dark noise": (
        lambda image, n: (image * 0.01 + n % 2).astype(np.uint8),
        "black",
        Health.FAILED,
    ),
    "white": (lambda image, _: np.full_like(image, 255), "white", Health.FAILED),
    "covered": (
        lambda image, n: cv2.GaussianBlur(image // 8 + 60 + n % 2, (0, 0), 40),
        "blind",
        Health.FAILED,
    ),
    "out of focus": (
        lambda image, n: cv2.GaussianBlur(image, (0, 0), 12) + np.uint8(n % 2),
        "blind",
        Health.FAILED,
    ),
    "knocked aside": (lambda image, _: np.roll(image, 60, axis=1), "moved", Health.DEGRADED),
    "knocked down": (lambda image, _: np.roll(image, 30, axis=0), "moved", Health.DEGRADED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failed_camera_is_reported_in_time(fault, drive, digest):
    spoil, alarm, wanted = FAULTS[fault]
    monitor = settled(drive, digest)
    images = (spoil(drive(60 + n), n) for n in range(WITHIN))
    number, health = frames_until_alarm(monitor, images, 60)
    assert number <= WITHIN
    for n in range(number, WITHIN):
        monitor.observe(spoil(drive(60 + n), n), found_in(n), latency_ms=10)
    assert monitor.report().alarms[alarm] == wanted
    assert health >= Health.DEGRADED


def test_frozen_camera_is_reported_in_time_and_forgiven_later(drive, digest):
    monitor = settled(drive, digest)
    still = drive(59)
    number, health = frames_until_alarm(monitor, [still] * WITHIN, 60)
    assert (number, health) == (5, Health.FAILED)
    for n in range(60, 89):
        assert monitor.observe(drive(n), found_in(n), latency_ms=10) == Health.FAILED
    assert monitor.observe(drive(89), found_in(89), latency_ms=10) == Health.OK


@pytest.mark.slow
def test_real_drive_raises_no_alarm_and_its_shifted_camera_does(shared_data):
    known = list_images(shared_data / "kitti" / "training" / "image_2")
    digest = digest_from(map(read_image, known))
    stream = [read_image(p) for p in list_images(shared_data / "kitti_stream")]
    monitor = HealthMonitor(3, digest)
    ordinary = (stream[n % len(stream)] for n in range(1000))
    assert frames_until_alarm(monitor, ordinary) is None
    shifted = (np.roll(image, 100, axis=1) for image in stream[1000 % len(stream) :])
    assert frames_until_alarm(monitor, shifted)[0] <= WITHIN


TURNS: dict[str, Callable[..., Any]] = {
    "90": np.rot90,
    "180": lambda image: np.rot90(image, 2),
    "270, as the sensor is": lambda image: np.rot90(image, 3),
}


def turned(turn, image):
    """Turn the camera: by 90 degrees its frames keep their size and hold other things."""
    made = np.ascontiguousarray(TURNS[turn](image))
    return cv2.resize(made, image.shape[1::-1]) if turn == "90" else made


@pytest.fixture(scope="module")
def street():
    """Images of a bright sky over a road, with a wall of blobs on one side."""
    rng = np.random.default_rng(1)
    light = np.repeat(np.array([200.0, 190, 150, 90, 80, 100, 110, 105]), 25)[:, None, None]
    wall = cv2.resize(rng.normal(0, 60, (6, 40, 3)), (1600, 200), interpolation=cv2.INTER_CUBIC)

    def image(number):
        left = int(400 + 300 * np.sin(number / 200))
        noise = np.random.default_rng(number).normal(0, 8, (200, 400, 3))
        return np.clip(light + wall[:, left : left + 400] + noise, 0, 255).astype(np.uint8)

    return image


def digest_from(images):
    probe = CameraProbe()
    return digest_of(
        figures_of_frame(probe(image), found_in(n), 3) for n, image in enumerate(images)
    )


@pytest.mark.parametrize("turn", TURNS)
def test_turned_camera_is_reported_in_time(turn, street):
    monitor = settled(street, digest_from(street(n) for n in range(0, 1260, 21)))
    assert monitor.report().drifts["turned"] < 0
    for n in range(60, 60 + WITHIN):
        monitor.observe(turned(turn, street(n)), found_in(n), latency_ms=10)
    assert monitor.report().alarms["drift_turned"] == Health.DEGRADED


def test_nothing_is_said_of_turning_at_another_light_or_without_a_layout(street, drive, digest):
    known = digest_from(street(n) for n in range(0, 1260, 21))
    night = HealthMonitor(3, known)
    for n in range(30):
        image = street(n)[::-1] // 4
        night.observe(np.ascontiguousarray(image), found_in(n), latency_ms=10)
    assert "turned" not in night.report().drifts
    assert "turned" not in settled(drive, digest).report().drifts


@pytest.mark.slow
@pytest.mark.parametrize("turn", TURNS)
def test_turned_camera_on_a_real_drive_is_reported_in_time(turn, shared_data):
    known = list_images(shared_data / "kitti" / "training" / "image_2")
    monitor = HealthMonitor(3, digest_from(map(read_image, known)))
    stream = [read_image(p) for p in list_images(shared_data / "kitti_stream")]
    for n, image in enumerate(stream[:30]):
        assert monitor.observe(image, found_in(n), latency_ms=10) == Health.OK
    for n, image in enumerate(stream[30 : 30 + WITHIN], 30):
        monitor.observe(turned(turn, image), found_in(n), latency_ms=10)
    assert monitor.report().alarms["drift_turned"] == Health.DEGRADED


def test_a_digest_of_another_model_is_refused(digest):
    with pytest.raises(ArtifactError, match="differ in their number of classes, 3 and 2"):
        HealthMonitor(2, digest)


def test_drifted_detections_are_degraded(drive, digest):
    monitor = settled(drive, digest)
    rng = np.random.default_rng(0)
    for number in range(60, 60 + WITHIN):
        corners = rng.uniform(0, 100, (40, 2)).astype(np.float32)
        found = Detections(
            np.concatenate([corners, corners + 300], axis=1),
            np.full(40, 0.5, np.float32),
            np.full(40, 2),
        )
        monitor.observe(drive(number), found, latency_ms=10)
    report = monitor.report()
    assert report.state == Health.DEGRADED
    assert {"drift_detections", "drift_classes", "drift_sizes"} <= set(report.alarms)


def test_late_old_and_clipped_are_degraded(drive):
    monitor = HealthMonitor(3, limits=Limits(age_ms=50))
    monitor.observe_clipping(0.5)
    for number in range(10):
        found = found_in(number)
        monitor.observe(drive(number), found, latency_ms=40, age_ms=90, is_late=True)
    report = monitor.report()
    assert set(report.alarms) == {"late", "old", "clipped"}
    assert report.state == Health.DEGRADED
    assert (report.latency_ms, report.age_ms, report.late_share) == (40, 90, 1)


def test_failing_backend_is_failed_and_tells_once():
    told: list[HealthReport] = []
    monitor = HealthMonitor(3, on_change=told.append)
    states = [monitor.observe_failure() for _ in range(6)]
    assert states == [Health.OK] * 4 + [Health.FAILED] * 2
    assert [r.state for r in told] == [Health.FAILED]
    assert told[0].alarms == {"backend": Health.FAILED}


def test_single_bad_frames_raise_no_alarm(drive, digest):
    monitor = settled(drive, digest)
    for number in range(60, 120):
        image = drive(number) if number % 4 else np.zeros_like(drive(number))
        monitor.observe(image, found_in(number), latency_ms=10)
        assert "black" not in monitor.report().alarms
