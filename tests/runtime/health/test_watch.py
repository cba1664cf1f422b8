"""A stream that is watched: its results, failures and samples reach the monitor."""

from __future__ import annotations

import json
import threading

import cv2
import numpy as np
import pytest

from edgedetr.runtime import Detections, Frame
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.health import watch as health_watch
from edgedetr.runtime.health.monitor import Health, HealthMonitor
from edgedetr.runtime.health.watch import CLIPPING_EVERY, HealthOptions, HealthWatch, watched
from edgedetr.runtime.stream.stream import StreamResult

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def result(number, *, missed=False, dropped=0):
    image = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
    return StreamResult(Frame(image), NOTHING, None, 30_000_000, 20_000_000, dropped, missed)


def test_results_and_failures_reach_the_monitor():
    watch = HealthWatch(HealthMonitor(1))
    for number in range(10):
        watch.result(result(number, missed=number % 2 == 0, dropped=number % 2))
    report = watch.monitor.report()
    assert (report.frames, report.latency_ms, report.age_ms, report.late_share) == (10, 20, 30, 1)
    assert set(report.alarms) == {"late"}
    for _ in range(5):
        watch.failure()
    assert watch.monitor.report().state == Health.FAILED
    watch.close()


def test_clipping_is_sampled_now_and_then():
    seen = []

    def share(image):
        seen.append(image)
        return 0.25

    watch = HealthWatch(HealthMonitor(1), share)
    for number in range(CLIPPING_EVERY + 1):
        watch.result(result(number % 7))
        if watch._sampler:
            watch._sampler.join(timeout=5)
    assert len(seen) == 2
    assert watch.monitor.report().clipped_share == 0.25
    watch.close()


def test_clipping_that_fails_is_switched_off_with_one_line():
    notes: list[str] = []

    def share(_):
        raise RuntimeError("Got invalid dimensions")

    watch = HealthWatch(HealthMonitor(1), share, notes.append)
    for number in range(2 * CLIPPING_EVERY):
        watch.result(result(number % 7))
        if watch._sampler:
            watch._sampler.join(timeout=5)
    watch.close()
    line = "clipping is no longer measured, the stream continues: Got invalid dimensions"
    assert notes == [line]
    assert watch.monitor.report().frames == 2 * CLIPPING_EVERY


def test_clipping_that_hangs_does_not_hang_the_end(monkeypatch):
    release = threading.Event()
    left: list[threading.Thread] = []
    monkeypatch.setattr(health_watch, "_END_S", 0.05)
    monkeypatch.setattr(health_watch, "leave_alone", left.append)
    watch = HealthWatch(HealthMonitor(1), lambda _: release.wait(10))
    for number in range(CLIPPING_EVERY + 1):
        watch.result(result(number % 7))
    watch.close()
    assert [thread.is_alive() for thread in left] == [True]
    release.set()


def test_missing_files_are_told(tmp_path):
    for options in (
        HealthOptions(digest=tmp_path / "none.json"),
        HealthOptions(clipping=tmp_path / "none.onnx"),
    ):
        with pytest.raises(ArtifactError, match="none"), watched(options, 1, print):
            pass


@pytest.mark.slow
def test_run_says_that_the_camera_is_black(tiny_onnx, tmp_path, edgedetr):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(12):
        image = np.random.default_rng(number).integers(0, 4, (40, 60, 3), np.uint8)
        assert cv2.imwrite(str(frames / f"{number:03d}.png"), image)
    status, _, told = edgedetr(
        *("run", tiny_onnx(), "--source", frames, "--rate", "20", "--deadline-ms", "1000"),
        *("--out", tmp_path / "out", "--metrics-port", "0"),
    )
    assert status == 0
    assert "health is FAILED after 5 frames: black" in told
    lines = (tmp_path / "out" / "frames.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 12
