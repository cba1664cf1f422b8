import click
import pytest
from click.testing import CliRunner

from edgedetr.runtime.cli import edgedetr
from edgedetr.runtime.commands.options import Number


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
    assert Number(0, 1).convert("0.25", None, None) == 0.25


def test_every_option_that_takes_a_number_refuses_nan():
    found = list(_number_options(edgedetr))
    assert len(found) > 10
    for command, option in found:
        assert isinstance(option.type, Number), f"edgedetr {command} {option.opts[0]}"
