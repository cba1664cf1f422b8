import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgedetr.runtime import cli
from edgedetr.runtime.commands.output import VERDICT_COLOURS, echo, write_figures

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("to_errors", [False, True])
def test_what_would_command_a_terminal_is_escaped(capsys, to_errors):
    echo("layer \x1b[31m\x07 \u202e\r:\n\tü", err=to_errors)
    written = capsys.readouterr()
    assert (written.err if to_errors else written.out) == (
        "layer \\x1b[31m\\x07 \\u202e\\r:\n\tü\n"
    )


def test_no_command_writes_by_another_way():
    """`click.echo` writes escape sequences to a terminal as they are."""
    stages = ("runtime", "distill", "calib", "export", "benchmarks/edgedetr")
    files = [path for stage in stages for path in (ROOT / stage).rglob("*.py")]
    ways = {p.relative_to(ROOT).as_posix() for p in files if "click.echo" in p.read_text("utf-8")}
    assert len(files) > 300
    assert ways == {"runtime/edgedetr/runtime/commands/output.py"}


SAYS = "from edgedetr.runtime.commands.output import echo; echo('broken', colour='red')"
WORKS = """
from edgedetr.runtime.commands.output import progress
with progress(2, "frames") as step:
    step()
    step()
"""


def said(environment, *, to_terminal, script=SAYS):
    """Return what a process writes, standard error too, to a terminal or to a pipe."""
    known = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "TERM"}}
    command, given = [sys.executable, "-c", script], {**known, **environment}
    if not to_terminal:
        done = subprocess.run(command, capture_output=True, check=True, env=given)
        return done.stdout + done.stderr
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor
        subprocess.run(command, stdout=theirs, stderr=theirs, check=True, env=given)
        os.close(theirs)
        return terminal.read(1000).replace(b"\r", b"")


@pytest.mark.parametrize(
    ("environment", "to_terminal", "wanted"),
    [
        ({}, True, b"\x1b[31mbroken\x1b[0m\n"),
        ({}, False, b"broken\n"),
        ({"NO_COLOR": "1"}, True, b"broken\n"),
        ({"TERM": "dumb"}, True, b"broken\n"),
    ],
    ids=["terminal", "pipe", "no color", "dumb terminal"],
)
def test_colours_are_for_terminals_alone(environment, to_terminal, wanted):
    assert said(environment, to_terminal=to_terminal) == wanted


def test_progress_is_for_terminals_alone():
    assert said({}, to_terminal=False, script=WORKS) == b""
    shown = said({"TERM": "xterm"}, to_terminal=True, script=WORKS)
    assert b"frames" in shown
    assert b"100%" in shown


def test_each_verdict_has_a_colour():
    assert VERDICT_COLOURS == {"passed": "green", "undecided": "yellow", "failed": "red"}


def test_figures_go_into_a_file_only_where_one_is_named(tmp_path):
    write_figures(None, {"lost": 3})
    assert not list(tmp_path.iterdir())
    write_figures(tmp_path / "f.json", {"lost": 3, "gates": ("a",)})
    assert json.loads((tmp_path / "f.json").read_text("utf-8")) == {"lost": 3, "gates": ["a"]}


WITHOUT_FIGURES = {
    "data synth": "says which data set it rendered",
    "data view": "makes a page; data check has its counts",
    "distill cache": "says what the cache will take",
    "distill recipes": "lists names",
    "export clipping": "says which file it wrote",
    "export deploy": "says which files it wrote",
    "health": "says one word",
    "package keygen": "says which key it made",
    "package sign": "says which file it wrote",
    "spec": "prints a spec",
}
ALWAYS_JSON = {
    "bench automotive",
    "calib collect",
    "calib digest",
    "device check",
    "distill train",
    "run",
}
"""What these make is JSON itself; see docs/start.md."""


def commands(command, name=""):
    """Yield the name of each command that is no group, and the command."""
    context = click.Context(command)
    if not isinstance(command, click.Group):
        yield name, command
        return
    for part in command.list_commands(context):
        found = command.get_command(context, part)
        assert found is not None
        yield from commands(found, f"{name} {part}".strip())


def test_every_command_that_prints_figures_writes_them_as_json():
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    every = dict(commands(cli.edgedetr))
    with_json = {n for n, c in every.items() if any("--json" in p.opts for p in c.params)}
    assert len(with_json) >= 20
    assert set(every) == with_json | set(WITHOUT_FIGURES) | ALWAYS_JSON
    assert not with_json & (set(WITHOUT_FIGURES) | ALWAYS_JSON)
