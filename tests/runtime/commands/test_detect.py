"""``edgedetr detect`` on a folder of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgedetr.runtime.images import read_image

if TYPE_CHECKING:
    from collections.abc import Callable

    Tiny = Callable[..., Path]
    Edgedetr = Callable[..., tuple[int, str, str]]

ROW = "Car -1 -1 -10 10.00 5.00 30.00 15.00 -1 -1 -1 -1000 -1000 -1000 -10 0.982014\n"


def _tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_result_files_and_overlays(
    tiny_onnx: Tiny,
    images: Path,
    tmp_path: Path,
    edgedetr: Edgedetr,
) -> None:
    out = tmp_path / "runs" / "found"
    arguments = ("detect", tiny_onnx(), "--images", images, "--out", out)
    assert edgedetr(*arguments)[0] == 0
    figures = tmp_path / "figures.json"
    # the second run replaces the first
    status, printed, _ = edgedetr(*arguments, "--json", figures)
    assert status == 0
    assert f"{out}: 2 frames, p50 " in printed
    values = json.loads(figures.read_text())
    assert values["frames"] == 2
    assert 0 < values["latency_ms"]["p50"] <= values["latency_ms"]["p99"]
    assert values["ran_on"].startswith("onnxruntime")
    assert (out / "000001.txt").read_text() == ROW
    assert (out / "000002.txt").read_text() == ""
    names = ["000001.txt", "000002.txt", "overlays/000001.png", "overlays/000002.png"]
    assert _tree(out.parent) == [f"found/{name}" for name in names]
    assert (read_image(out / "overlays" / "000001.png") != 255).any()
    assert (read_image(out / "overlays" / "000002.png") == 0).all()


def test_without_overlays_and_with_a_high_threshold(
    tiny_onnx: Tiny, images: Path, tmp_path: Path, edgedetr: Edgedetr
) -> None:
    out = tmp_path / "found"
    options = ("--no-overlays", "--threshold", "0.99")
    model = tiny_onnx()
    assert edgedetr("detect", model, "--images", images, "--out", out, *options)[0] == 0
    assert _tree(out) == ["000001.txt", "000002.txt"]
    assert (out / "000001.txt").read_text() == ""


def test_an_unreadable_image_leaves_nothing(
    tiny_onnx: Tiny,
    images: Path,
    tmp_path: Path,
    edgedetr: Edgedetr,
) -> None:
    (images / "000003.png").write_bytes(b"not an image")
    model, out = tiny_onnx(), tmp_path / "runs" / "found"
    status, _, error = edgedetr("detect", model, "--images", images, "--out", out)
    assert status == 1
    lines = error.splitlines()
    assert lines[-1].startswith("edgedetr: ")
    assert "000003.png: not a whole PNG or JPEG image" in lines[-1]
    assert _tree(out.parent) == []


def test_results_of_other_images_are_not_mixed(
    tiny_onnx: Tiny,
    images: Path,
    tmp_path: Path,
    edgedetr: Edgedetr,
) -> None:
    out = tmp_path / "found"
    out.mkdir()
    (out / "000007.txt").write_text("")
    status, _, error = edgedetr("detect", tiny_onnx(), "--images", images, "--out", out)
    assert status == 2
    assert "holds other results (000007.txt)" in error
    assert _tree(out) == ["000007.txt"]


def test_two_images_of_one_name_are_refused(
    tiny_onnx: Tiny,
    images: Path,
    tmp_path: Path,
    edgedetr: Edgedetr,
) -> None:
    cv2.imwrite(str(images / "000002.jpg"), np.zeros((20, 40, 3), np.uint8))
    out = tmp_path / "found"
    status, _, error = edgedetr("detect", tiny_onnx(), "--images", images, "--out", out)
    assert status == 1
    assert "two images are called 000002" in error


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("no.onnx", "--images", "images"), 1, "no.onnx is missing"),
        (("tiny.onnx", "--images", "nowhere"), 1, "nowhere: no such folder"),
        (("tiny.onnx", "--images", "images", "--threshold", "2"), 2, "'--threshold': 2.0 is not"),
        (("tiny.onnx",), 2, "Missing option '--images'"),
        (("tiny.onnx", "--images", "images", "--spec", "no.toml"), 2, "no.toml: not a readable"),
    ],
)
def test_bad_requests_are_one_line(  # noqa: PLR0913, PLR0917 - cases and fixtures
    tiny_onnx: Tiny,
    images: Path,
    edgedetr: Edgedetr,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    tiny_onnx()
    monkeypatch.chdir(images.parent)
    found, _, error = edgedetr("detect", "--out", "found", *arguments)
    assert found == status
    assert message in error
    assert error.count("\n") == 1
    assert not Path("found").exists()


def test_a_process_of_its_own_prints_no_warning(
    tiny_onnx: Tiny, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    script = "from edgedetr.runtime.cli import main; main()"
    arguments = ["detect", str(tiny_onnx()), "--images", str(images), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "000001.txt").read_text() == ROW


def test_home_is_expanded_on_the_command_line(
    tiny_onnx: Tiny,
    images: Path,
    tmp_path: Path,
    edgedetr: Edgedetr,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model = f"~/{tiny_onnx().relative_to(tmp_path)}"
    arguments = ("detect", model, f"--images=~/{images.name}", "--out=~/found")
    assert edgedetr(*arguments)[0] == 0
    assert (tmp_path / "found" / "000001.txt").read_text() == ROW
