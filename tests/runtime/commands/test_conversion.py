"""Models that a stage converts before they run."""

from pathlib import Path

import pytest

from edgedetr.runtime.commands.conversion import runnable
from edgedetr.runtime.errors import ArtifactError


def test_a_file_is_converted_by_its_suffix(tmp_path):
    checkpoint = tmp_path / "a.safetensors"
    checkpoint.touch()
    converters = {".safetensors": lambda path: path.with_suffix(".onnx")}
    assert runnable(checkpoint, converters) == tmp_path / "a.onnx"
    assert runnable(tmp_path / "a.engine", converters) == tmp_path / "a.engine"
    missing = tmp_path / "b.safetensors"
    assert runnable(missing, converters) == missing  # opening it reports that it is missing


def test_a_checkpoint_that_no_stage_exports_is_refused():
    with pytest.raises(ArtifactError, match=r"a\.safetensors is a checkpoint, .* cannot export"):
        runnable(Path("a.safetensors"), {})


def test_a_name_of_the_hub_is_imported():
    converters = {"hub": lambda name: Path("cache") / f"{name.name}.onnx"}
    assert runnable(Path("somebody/detector"), converters) == Path("cache/detector.onnx")
    assert runnable(Path("somebody/detector.onnx"), converters) == Path("somebody/detector.onnx")
    assert runnable(Path("somebody/detector"), {}) == Path("somebody/detector")
