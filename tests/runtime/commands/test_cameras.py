"""``edgedetr run`` with several cameras."""

import json
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedetr.runtime.commands.cameras import CameraOptions
from edgedetr.runtime.health.watch import HealthOptions


@pytest.fixture
def folders(tmp_path):
    """Two cameras: of the first every image is white and holds one car, of the second none is."""
    found = [tmp_path / name for name in ("front", "rear")]
    for grey, folder in zip((255, 0), found, strict=True):
        folder.mkdir()
        for k in range(8):
            cv2.imwrite(str(folder / f"{k:03d}.png"), np.full((20, 40, 3), grey, np.uint8))
    return found


def test_each_camera_has_its_own_results(edgedetr, tiny_onnx, folders, tmp_path):
    out, video = tmp_path / "out", tmp_path / "drive.mp4"
    sources = [argument for folder in folders for argument in ("--source", folder)]
    code, text, error = edgedetr(
        *("run", tiny_onnx(batch=2), *sources, "--rate", 20, "--deadline-ms", 10_000),
        *("--out", out, "--video", video),
    )
    assert code == 0, error
    assert sorted(line.split(": ")[1] for line in text.splitlines()) == ["camera 0", "camera 1"]
    for camera, objects in (("0", 1), ("1", 0)):
        summary = json.loads((out / camera / "summary.json").read_text())
        lines = (out / camera / "frames.jsonl").read_text().splitlines()
        assert summary["frames"] == summary["written"] == len(lines) > 0
        assert {len(json.loads(line)["detections"]) for line in lines} == {objects}
        played = cv2.VideoCapture(str(tmp_path / f"drive-{camera}.mp4"))
        assert played.get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)
        played.release()
    assert "edgedetr: camera 1: health is FAILED" in error


def test_a_camera_that_cannot_be_read_is_named_and_the_other_goes_on(edgedetr, tiny_onnx, folders):
    for path in folders[0].iterdir():
        path.write_bytes(b"")
    sources = ("--source", folders[0], "--source", folders[1], "--rate", 20)
    code, text, error = edgedetr("run", tiny_onnx(), *sources, "--deadline-ms", 10_000)
    assert code == 1
    assert "camera 0: none of 8 frames could be read" in error
    assert "camera 1: 8 frames" in text


def test_results_of_another_run_stay(edgedetr, tiny_onnx, folders, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "000.txt").write_text("")
    sources = ("--source", folders[0], "--source", folders[1])
    code, _, error = edgedetr("run", tiny_onnx(), *sources, "--out", out)
    assert (code, len(error.splitlines())) == (2, 1)
    assert "out holds other results (000.txt)" in error


def test_a_port_for_each_camera():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = CameraOptions(1, Path("o"), Path("v/d.mp4"), False, HealthOptions(metrics_port=port))
    assert options.of_each(1) == [options]
    _, second = options.of_each(2)
    assert (second.out, second.video) == (Path("o/1"), Path("v/d-1.mp4"))
    assert second.watching.metrics_port == port + 1
    assert CameraOptions(1, None, None, False, HealthOptions()).of_each(2)[1].out is None


@pytest.mark.parametrize("video", [".", ""])
def test_a_folder_is_no_video_of_several_cameras(edgedetr, tiny_onnx, folders, video):
    sources = ("--source", folders[0], "--source", folders[1])
    code, _, error = edgedetr("run", tiny_onnx(), *sources, "--video", video)
    assert (code, len(error.splitlines())) == (2, 1)
    assert "--video . is a folder; name an MP4 file" in error


def test_ports_end(edgedetr, tiny_onnx, folders):
    sources = ("--source", folders[0], "--source", folders[1])
    code, _, error = edgedetr("run", tiny_onnx(), *sources, "--metrics-port", 65_535)
    assert (code, len(error.splitlines())) == (2, 1)
    assert "ports end at 65535" in error


def test_a_video_is_no_output_of_its_own_run(edgedetr, tiny_onnx, tmp_path):
    films = [tmp_path / f"drive-{k}.mp4" for k in range(2)]
    for film in films:
        film.write_bytes(b"a drive")
    sources = ("--source", films[0], "--source", films[1])
    code, _, error = edgedetr("run", tiny_onnx(), *sources, "--video", tmp_path / "drive.mp4")
    assert (code, len(error.splitlines())) == (2, 1)
    assert "drive-0.mp4 is an input of the same command" in error
    assert films[0].read_bytes() == b"a drive"
