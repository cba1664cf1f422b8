import click
import pytest
from click.testing import CliRunner

from edgedetr.runtime.cli import edgedetr
from edgedetr.runtime.commands.options import Number, require_apart
from edgedetr.runtime.errors import UsageError


def _number_options(command, name=""):
    for parameter in command.params:
        if isinstance(parameter.type, click.types.FloatParamType):
            yield name, parameter
    for child in getattr(command, "list_commands", lambda _: [])(None):
        yield from _number_options(command.get_command(None, child), f"{name} {child}".strip())


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_what_is_not_finite_is_refused_in_one_line(text):
    result = CliRunner().invoke(edgedetr, ["run", "m.onnx", "--source", ".", "--rate", text])
    assert result.exit_code == 2
    assert "Invalid value for '--rate'" in result.output


def test_a_number_in_its_range_is_taken():
    assert Number(0, 1)("0.25") == 0.25


def test_every_option_that_takes_a_number_refuses_nan():
    found = list(_number_options(edgedetr))
    assert len(found) > 10
    for command, option in found:
        assert isinstance(option.type, Number), f"edgedetr {command} {option.opts[0]}"


def test_an_output_is_no_input_by_whatever_name(tmp_path):
    model, link = tmp_path / "m.onnx", tmp_path / "other.json"
    model.write_bytes(b"weights")
    link.symlink_to(model)
    with pytest.raises(UsageError, match=r"other\.json is an input of the same command"):
        require_apart([None, link], [model, None])
    require_apart([tmp_path / "new.json", None], [model, tmp_path / "missing.toml"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["calib", "collect", "m.onnx", "--images", ".", "-o", "other"],
        ["calib", "digest", "m.onnx", "--images", ".", "-o", "other"],
        ["verify", "a.onnx", "m.onnx", "--images", ".", "--json", "other"],
        ["verify", "a.onnx", "m.onnx", "--images", ".", "--html", "other"],
        ["export", "fp16", "m.onnx", "-o", "other"],
        ["export", "qdq", "a.onnx", "m.onnx", "-o", "other"],
        ["export", "onnx", "m.onnx", "-o", "other"],
        ["export", "engine", "m.onnx", "-o", "other"],
        ["export", "engine", "a.onnx", "-o", "m.onnx", "--timing-cache", "other"],
        ["export", "clipping", "m.onnx", "-o", "other"],
        ["calib", "sensitivity", "m.onnx", "--images", ".", "--json", "other"],
        ["package", "a.onnx", "--license", "m.onnx", "-o", "other"],
        ["package", "a.onnx", "--golden-frame", "m.onnx", "-o", "other"],
        ["package", "a.onnx", "--key", "m.onnx", "-o", "other"],
        ["evaluate", "coco", "--truth", "a", "--detections", "m.onnx", "--json", "other"],
        ["run", "a.onnx", "--source", "m.onnx", "--video", "other"],
        ["bench", "latency", "m.onnx", "--images", ".", "--json", "other"],
    ],
    ids=" ".join,
)
def test_no_command_writes_over_what_it_reads(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    (tmp_path / "other").hardlink_to(model)
    result = CliRunner().invoke(edgedetr, arguments)
    assert isinstance(result.exception, UsageError)
    assert model.read_bytes() == b"weights"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "kitti", "--labels", "in", "--detections", "o", "--json", "in/0.txt"],
        ["evaluate", "data", "--data", "o", "--detections", "in", "--json", "in/0.txt"],
        ["evaluate", "tracks", "--labels", "o", "--tracks", "in", "--json", "other.txt"],
        ["data", "check", "in", "--json", "in/sub/0.PNG"],
        ["data", "view", "in", "-o", "in/0.txt"],
        ["verify", "a.onnx", "b.onnx", "--images", "in", "--html", "in/sub/0.PNG"],
        ["calib", "collect", "a.onnx", "--images", "in", "-o", "in/sub/0.PNG"],
        ["bench", "latency", "a.onnx", "--images", "in", "--json", "in/../in/0.txt"],
        ["import", "hub", "-o", "hub/model.safetensors"],
        ["import", "hub", "-o", "hub/config.json"],
    ],
    ids=" ".join,
)
def test_no_command_writes_over_a_file_of_a_folder_that_it_reads(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    for name in ("in/0.txt", "in/sub/0.PNG", "hub/model.safetensors", "hub/config.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    (tmp_path / "hub" / "preprocessor_config.json").touch()
    (tmp_path / "other.txt").symlink_to(tmp_path / "in" / "0.txt")
    result = CliRunner().invoke(edgedetr, arguments)
    assert isinstance(result.exception, UsageError), result.exception
    assert "is an input of the same command" in str(result.exception)
    assert (tmp_path / arguments[-1]).read_bytes() == b"{}"
