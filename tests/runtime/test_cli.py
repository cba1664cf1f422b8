"""What the command shows of itself."""

import pytest
from click.testing import CliRunner

from edgedetr.runtime import cli


def shown():
    return CliRunner().invoke(cli.edgedetr, ["--help"]).output


def test_the_help_shows_the_path_in_order():
    text = shown().partition("The path:")[2]
    steps = ("distill train", "export onnx", "verify", "report", "package", "run MODEL")
    places = [text.index(f"edgedetr {step}") for step in steps]
    assert places == sorted(places)
    assert "_EDGEDETR_COMPLETE=bash_source edgedetr" in text


def test_every_step_of_the_path_is_a_command():
    commands = cli.edgedetr.list_commands(None)  # type: ignore[arg-type]
    for name, typed, _ in cli._PATH:
        assert name in commands
        assert typed.split()[0] == name


def test_a_vehicle_sees_its_own_steps_alone(monkeypatch):
    monkeypatch.setattr(cli, "_stages", list)
    text = shown()
    assert "edgedetr detect MODEL" in text
    assert "distill" not in text.partition("The path:")[2]


def test_bash_gets_its_completion(monkeypatch):
    monkeypatch.setenv("_EDGEDETR_COMPLETE", "bash_source")
    done = CliRunner().invoke(cli.edgedetr, [], prog_name="edgedetr")
    assert "complete -o nosort -F _edgedetr_completion edgedetr" in done.output


@pytest.mark.parametrize("wrong", ["exprot", "rum"])
def test_a_wrong_command_names_the_nearest(wrong):
    done = CliRunner().invoke(cli.edgedetr, [wrong])
    assert f"no command {wrong!r}; did you mean" in done.output
