"""Signals end every command in order: nothing half-written is left, and no worker."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

COMMAND = [sys.executable, "-c", "from edgedetr.runtime.cli import main; main()"]
SECONDS = 60


def wait_until(true, process):
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)


@pytest.fixture
def detecting(tiny_onnx, tmp_path):
    """Starts ``edgedetr detect`` over many images; returns the process once it has results."""
    images, out = tmp_path / "images", tmp_path / "results" / "out"
    images.mkdir()
    image = np.random.default_rng(0).integers(0, 256, (300, 900, 3), np.uint8)
    cv2.imwrite(str(images / "000.png"), image)
    for k in range(1, 3000):
        (images / f"{k:03d}.png").symlink_to(images / "000.png")
    started = []

    def start(*before):
        arguments = ["detect", str(tiny_onnx()), "--images", str(images), "--out", str(out)]
        process = subprocess.Popen(
            [*before, *COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        wait_until(lambda: list(out.parent.glob(".*/*.txt")), process)
        return process, out.parent

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(detecting, number):
    process, folder = detecting()
    process.send_signal(number)
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in error
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_nohup_holds_and_what_a_kill_leaves_is_no_result(detecting):
    process, folder = detecting("nohup")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.wait()
    [left] = folder.iterdir()
    assert left.name.startswith(".")
    assert left.name.endswith(".tmp")


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.05])
def test_sighup_and_then_sigterm(tiny_onnx, tmp_path, wait_s):
    process = streaming(tiny_onnx, tmp_path, COMMAND)
    assert b" runs on " in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(wait_s)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0


HANGING = """
import threading
from edgedetr.runtime import detector
from edgedetr.runtime.inference import swapping
from edgedetr.runtime.cli import main
swapping.END_S = 0.1
detector.Detector.swap = lambda *_, **__: threading.Event().wait()
main()
"""


@pytest.mark.slow
def test_a_swap_that_hangs_does_not_hang_the_end(tiny_onnx, tmp_path):
    process = streaming(tiny_onnx, tmp_path, [sys.executable, "-c", HANGING])
    assert b" runs on " in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert b"was still being opened at the end and is abandoned" in error


STARTING = """
import os, signal
from edgedetr.runtime import detector
from edgedetr.runtime.cli import main
opened = detector.open_in_time
def open_and_ask(*arguments, **how):
    detector.open_in_time = opened
    os.kill(os.getpid(), signal.SIGHUP)
    return opened(*arguments, **how)
detector.open_in_time = open_and_ask
main()
"""


@pytest.mark.slow
def test_sighup_while_it_starts_swaps_once_it_runs(tiny_onnx, tmp_path):
    process = streaming(tiny_onnx, tmp_path, [sys.executable, "-c", STARTING])
    assert b" runs on " in process.stderr.readline()
    assert b" is swapped in and runs on " in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def streaming(tiny_onnx, tmp_path, command):
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for k in range(200):
        cv2.imwrite(str(images / f"{k:03d}.png"), rng.integers(0, 256, (20, 40, 3), np.uint8))
    arguments = ["run", str(tiny_onnx()), "--source", str(images), "--rate", "10"]
    return subprocess.Popen(
        [*command, *arguments, "--deadline-ms", "9999"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def children_of(number):
    """Return the processes that a process started, of Linux."""
    return [int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="wants Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_process(tmp_path, number):
    pytest.importorskip("tqdm")
    process = subprocess.Popen(
        [*COMMAND, "data", "synth", str(tmp_path / "synth"), "--frames", "5000", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: list(tmp_path.glob(".*/made/training/image_2/*.png")), process)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    process.wait(SECONDS)
    until = time.monotonic() + SECONDS
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert process.returncode == -number
    if number == signal.SIGTERM:
        assert list(tmp_path.iterdir()) == []
