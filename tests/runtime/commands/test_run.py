"""``edgedetr run`` on folders of images, and the signals that it reacts to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest

from edgedetr.runtime import Detector

COMMAND = [sys.executable, "-W", "error", "-c", "from edgedetr.runtime.cli import main; main()"]


@pytest.fixture
def images(tmp_path):
    """Eight frames; all but the first are white and hold one car."""
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(8):
        cv2.imwrite(str(folder / f"{k:03d}.png"), np.full((20, 40, 3), 255 * (k > 0), np.uint8))
    return folder


def lines_of(folder):
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def test_threads_of_a_stream_sleep_while_they_wait(edgedetr, tiny_onnx, images, monkeypatch):
    opened: list[bool] = []
    monkeypatch.setattr(Detector, "open", partial(open_and_note, opened, Detector.open))
    code, _, _ = edgedetr("run", tiny_onnx(), "--source", images, "--rate", 50, "--frames", 1)
    assert (code, opened) == (0, [True])


def open_and_note(opened, original, *arguments, steady=False, **how):
    opened.append(steady)
    return original(*arguments, steady=steady, **how)


def test_the_service_manager_hears_of_start_frames_and_end(
    edgedetr, tiny_onnx, images, tmp_path, monkeypatch
):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        assert edgedetr("run", tiny_onnx(), "--source", images, "--frames", 2)[0] == 0
        heard = [manager.recv(99) for _ in range(3)]
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_folder_run_with_everything(edgedetr, tiny_onnx, images, tmp_path):
    pytest.importorskip("edgefirst.tracker")
    out, video = tmp_path / "out", tmp_path / "videos" / "drive.mp4"
    code, text, error = edgedetr(
        *("run", tiny_onnx(), "--source", images, "--rate", 50, "--deadline-ms", 10_000),
        *("--out", out, "--video", video, "--tracker"),
    )
    assert code == 0
    started, *others = error.splitlines()
    assert started.startswith(f"edgedetr: {tiny_onnx()} runs on onnxruntime ")
    assert all(line.startswith("edgedetr: health is") for line in others)
    assert text.startswith("tiny.onnx: ")
    lines, summary = lines_of(out), json.loads((out / "summary.json").read_text())
    assert summary["frames"] == summary["written"] == len(lines) > 0
    assert summary["frames"] + summary["dropped"] == 8
    assert summary["problem"] == ""
    assert summary["age"]["samples"] == len(lines)
    white = [line for line in lines if line["frame"] != "000"]
    assert {line["detections"][0]["track"] for line in white} == {1}
    assert {line["detections"][0]["class"] for line in white} == {"Car"}
    assert (out / f"{white[0]['frame']}.txt").read_text().startswith("Car -1 -1 -10 10.00 5.00")
    played = cv2.VideoCapture(str(video))
    assert played.get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)
    assert played.get(cv2.CAP_PROP_FPS) == 50
    played.release()


def test_a_number_of_frames_is_enough(edgedetr, tiny_onnx, images):
    code, text, _ = edgedetr("run", tiny_onnx(), "--source", images, "--rate", 5, "--frames", 2)
    assert code == 0
    assert "2 frames" in text


def test_a_broken_image_is_told_and_passed_over(edgedetr, tiny_onnx, images, tmp_path):
    (images / "003.png").write_bytes(b"")
    arguments = ("--source", images, "--rate", 20, "--deadline-ms", 9999, "--out", tmp_path / "o")
    code, text, error = edgedetr("run", tiny_onnx(), *arguments)
    assert code == 0
    assert "1 unreadable" in text or "003.png" not in error  # unless it was dropped
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--source", "nowhere"), 1, "nowhere: no such folder"),
        (("--source", "images", "--rate", "0"), 2, "--rate"),
        (("--source", "images", "--backend", "onnxruntim"), 2, "did you mean 'onnxruntime"),
        (("--source", "images", "--out", "used"), 2, "used holds other results (000.txt)"),
        (("--source", "images", "--out", "images/000.png"), 2, "000.png is a file"),
        (("--source", "images", "--public-key", "k.pub"), 2, "is not a package"),
        (("--source", "images", "--deadline-ms", "0"), 2, "--deadline-ms"),
        ((), 2, "Missing option '--source'"),
    ],
)
def test_bad_requests_are_one_line(  # noqa: PLR0913, PLR0917 - cases and fixtures
    edgedetr, tiny_onnx, images, monkeypatch, arguments, status, message
):
    monkeypatch.chdir(images.parent)
    (images.parent / "used").mkdir()
    (images.parent / "used" / "000.txt").write_text("")
    code, _, error = edgedetr("run", tiny_onnx(), *arguments)
    assert (code, error.count("\n")) == (status, 1)
    assert message in error


def test_nothing_but_unreadable_frames_is_told(edgedetr, tiny_onnx, images):
    for path in images.iterdir():
        path.write_bytes(b"")
    more = ("--rate", 100, "--deadline-ms", 9999)
    code, text, error = edgedetr("run", tiny_onnx(), "--source", images, *more)
    assert code == 1
    assert "0 frames, 0 dropped, 0 missed the deadline, 8 unreadable" in text
    assert "none of 8 frames could be read; see the messages above" in error


def test_names_do_not_command_the_terminal(edgedetr, tiny_onnx, images):
    (images / "000.png").rename(images / "\x1b[31m\nedgedetr: fine.png")
    (images / "\x1b[31m\nedgedetr: fine.png").write_bytes(b"")
    model = tiny_onnx().rename(tiny_onnx().with_name("\x1b[32m.onnx"))
    more = ("--rate", 100, "--deadline-ms", 9999, "--frames", 1)
    code, text, error = edgedetr("run", model, "--source", images, *more)
    assert code == 0
    assert "\x1b" not in text + error
    assert r"/\x1b[31m edgedetr: fine.png: not a whole" in error
    assert r"\x1b[32m.onnx: 1 frame," in text


@pytest.fixture
def started(tiny_onnx, tmp_path):
    """A run of 100 frames at 10 Hz that has written some results, as a process of its own."""
    images, out = tmp_path / "many", tmp_path / "out"
    images.mkdir()
    for k in range(100):
        image = np.random.default_rng(k).integers(0, 256, (20, 40, 3), np.uint8)
        cv2.imwrite(str(images / f"{k:03d}.png"), image)
    model = tiny_onnx()
    arguments = ["run", str(model), "--source", str(images), "--rate", "10", "--out", str(out)]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--deadline-ms", "9999"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert process.stderr.readline().startswith(f"edgedetr: {model} runs on onnxruntime ")
    until = time.monotonic() + 300
    while not list(out.glob("*.txt")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    yield process, model, out
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(started, number):
    process, _, out = started
    process.send_signal(number)
    text, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (0, "")
    lines, summary = lines_of(out), json.loads((out / "summary.json").read_text())
    assert 0 < summary["frames"] == summary["written"] == len(lines) < 100
    assert f"{len(lines)} frame" in text
    assert len(list(out.glob("*.txt"))) == len(lines)
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_sighup_swaps_the_model_and_keeps_a_good_one(started):
    process, model, out = started
    good = model.read_bytes()
    model.write_bytes(good[:100])
    process.send_signal(signal.SIGHUP)
    assert "is not swapped in, the old model stays in use" in process.stderr.readline()
    model.write_bytes(good)
    process.send_signal(signal.SIGHUP)
    said = process.stderr.readline()
    assert said.startswith(f"edgedetr: {model} is swapped in and runs on onnxruntime ")
    before = len(lines_of(out))
    while len(lines_of(out)) < before + 2:
        time.sleep(0.02)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (0, "")


@pytest.mark.slow
def test_the_stream_goes_on_where_files_cannot_grow(tiny_onnx, images, tmp_path):
    """The system's own limit on file sizes cuts a line in half, as a full disk would."""
    out = tmp_path / "out"
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (700, 700)); "
    arguments = ["--rate", "10", "--deadline-ms", "9999", "--out", str(out)]
    done = subprocess.run(
        [*COMMAND[:-1], limit + COMMAND[-1], "run", tiny_onnx(), "--source", images, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "results are no longer written, after" in done.stderr
    assert "frames.jsonl: File too large" in done.stderr
    frames, dropped = (int(done.stdout.split()[k]) for k in (1, 3))
    assert frames + dropped == 8
    assert 0 < len(lines_of(out)) < frames  # whole lines only
