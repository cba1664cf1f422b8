"""What the commands of distillation take from the export stage."""

import sys
from typing import Any

import pytest
from click.testing import CliRunner

import edgedetr.export
from edgedetr.export.commands.distill import calibrated
from edgedetr.runtime.cli import edgedetr as command
from edgedetr.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("words", "function"),
    [
        (["train"], "edgedetr.distill.recipe.train"),
        (["compare", "--methods", "none,fgd"], "edgedetr.distill.comparison.runs.compare"),
    ],
)
def test_training_for_int8_calibrates_where_the_export_rounds(
    words, function, monkeypatch, tmp_path
):
    config = tmp_path / "c.toml"
    config.write_text('[data]\nroot = "x"\n', encoding="utf-8")
    given = []

    def noted(*arguments):
        given.append(arguments)
        raise UsageError("it would train now")

    monkeypatch.setattr(function, noted)
    result = CliRunner().invoke(command, ["distill", *words, str(config)])
    assert str(result.exception) == "it would train now"
    assert [calibrated in arguments for arguments in given] == [True]


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.delattr(edgedetr.export, "qat", raising=False)
    monkeypatch.setitem(sys.modules, "edgedetr.export.qat", None)
    model: Any = None
    with pytest.raises(UsageError, match=r"qat\.enabled needs .*edgedetr\[export\]"):
        calibrated(model, [], "", "")
