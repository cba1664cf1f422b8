"""The commands that calibrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edgedetr.calib.stats import read_stats
from edgedetr.runtime.cli import edgedetr
from edgedetr.runtime.errors import DataError, UsageError
from edgedetr.runtime.health.digest import read_digest
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., onnx.ModelProto]

SPEC = ModelSpec((4, 8), ("Car",))


def write_images(folder: Path, *levels: int) -> None:
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        image = np.full((4, 8, 3), level, np.uint8)
        cv2.imwrite(str(folder / f"{number:06d}.png"), image)


@pytest.fixture
def model(tmp_path: Path, onnx_model: Build) -> Path:
    return build(tmp_path, onnx_model)


def build(
    folder: Path, onnx_model: Build, middle: str = "Relu", spec: ModelSpec | None = SPEC
) -> Path:
    """Write two convolutions with an operator between them."""
    model = onnx_model(
        [
            ("Conv", "first", ["images", "w1"], "a", {}),
            (middle, "middle", ["a"], "r", {}),
            ("Conv", "second", ["r", "w2"], "y", {}),
        ],
        {"w1": np.full((2, 3, 1, 1), -2.0), "w2": np.ones((1, 2, 1, 1))},
        inputs={"images": (1, 3, 4, 8)},
        outputs=["y"],
        spec=spec,
        classes=1,
    )
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def test_the_command_writes_beside_the_model(model: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 51, 204, 102)
    args = ["calib", "collect", str(model), "--images", str(tmp_path / "images"), "--frames", "2"]
    result = CliRunner().invoke(edgedetr, [*args, "--method", "max"], catch_exceptions=False)
    assert "2 activations over 2 of 3 frames, method max" in result.output
    stats = read_stats(tmp_path / "net.calib.json")
    assert (stats.method, stats.frames) == ("max", 2)


@pytest.mark.parametrize(("method", "warned"), [("entropy", True), ("mse", False)])
def test_a_method_that_cost_boxes_is_warned_of(
    model: Path, tmp_path: Path, method: str, *, warned: bool
) -> None:
    write_images(tmp_path / "images", 51, 204)
    args = ["calib", "collect", str(model), "--images", str(tmp_path / "images")]
    result = CliRunner().invoke(edgedetr, [*args, "--method", method], catch_exceptions=False)
    assert ("method entropy broke the best box in 25 of 25" in result.output) is warned


def test_the_command_reads_a_kitti_folder_and_a_spec(tmp_path: Path, onnx_model: Build) -> None:
    write_images(tmp_path / "kitti" / "training" / "image_2", 51)
    spec = tmp_path / "spec.toml"
    spec.write_text('input_hw = [4, 8]\nclass_names = ["Car"]\n', encoding="utf-8")
    model, out = build(tmp_path, onnx_model, spec=None), tmp_path / "out.json"
    args = ["--data", str(tmp_path / "kitti"), "--spec", str(spec), "-o", str(out)]
    result = CliRunner().invoke(edgedetr, ["calib", "collect", str(model), *args])
    assert result.exit_code == 0
    assert read_stats(out).spec.input_hw == (4, 8)


def test_a_failed_run_leaves_no_file(tmp_path: Path, onnx_model: Build) -> None:
    write_images(tmp_path / "images", 0)
    model = build(tmp_path, onnx_model, middle="Log")
    args = ["calib", "collect", str(model), "--images", str(tmp_path / "images")]
    assert isinstance(CliRunner().invoke(edgedetr, args).exception, DataError)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("options", [[], ["--data", "a", "--images", "b"]])
def test_one_source_of_frames_is_wanted(model: Path, options: list[str]) -> None:
    result = CliRunner().invoke(edgedetr, ["calib", "collect", str(model), *options])
    assert isinstance(result.exception, UsageError)


def test_the_digest_lies_beside_the_model(tmp_path: Path, tiny_onnx: Callable[..., Path]) -> None:
    """White images, in which tiny.onnx finds a car each."""
    model = tiny_onnx()
    write_images(tmp_path / "images", 255, 255, 255)
    args = ["calib", "digest", str(model), "--images", str(tmp_path / "images"), "--frames", "2"]
    result = CliRunner().invoke(edgedetr, args, catch_exceptions=False)
    assert result.output.endswith("tiny.health.json: 2 of 3 frames, 2 objects\n")
    assert read_digest(tmp_path / "tiny.health.json").class_counts == (2, 0)
