"""What docs/troubleshooting.md quotes is what the code says, and its commands exist."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest

from edgedetr.runtime.cli import edgedetr

ROOT = Path(__file__).parents[2]
STAGES = ("runtime", "distill", "calib", "export", "benchmarks")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
ROWS = [
    line.strip("|\n ").split(" | ")
    for line in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| symptom |")
]
MESSAGES = [quote for row in ROWS for quote in re.findall(r"`(.+?)`", row[0])]
CLOSED, OPEN = re.compile(r"`(edgedetr [^`\n]+)`"), re.compile(r"^edgedetr .*$", re.MULTILINE)
LEFT_OUT = "..."
"""What stands in a quoted message for what differs."""


def text_of(node):
    """Return a string as it stands in the source, with a NUL for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "\0"


@cache
def texts():
    """Return every string of the source that is no docstring."""
    found = set()
    for path in (p for stage in STAGES for p in (ROOT / stage / "edgedetr").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        found |= {text_of(n) for n in ast.walk(tree) if n not in alone}
    return found - {"\0"}


def occurs(message):
    """Tell whether one string of the source has the parts of a message in their order."""
    parts = message.split(LEFT_OUT)
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return any(pattern.search(t) for t in texts() if all(part in t for part in parts))


def test_what_nobody_says_is_found_out():
    assert occurs("the camera gave no frame for ... s")
    assert not occurs("the camera gave no frame for 5 s")
    assert not occurs("the camera gave a frame for ... s")
    assert not occurs("A message says what was found, what was wanted")  # in a docstring


def test_the_tables_are_read():
    assert len(ROWS) > 40
    assert all(len(row) == 3 and all(row) for row in ROWS)
    assert len(MESSAGES) >= len(ROWS)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_of_the_code(message):
    parts = message.split(LEFT_OUT)
    assert len("".join(parts).split()) > 1, "one word fits too much"
    assert occurs(message)


def commands_of(page):
    """Return the command lines of a page, those that go on in a next line whole."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return CLOSED.findall(text) + OPEN.findall(text)


def unknown(line):
    """Return what is no command or option in a command line."""
    words = shlex.split(line, comments=True)[1:]
    found: click.Command = edgedetr
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        try:
            inner = found.get_command(click.Context(found), words[0])
        except click.UsageError as error:
            return [error.message]
        if (
            inner is None and "create" in found.commands
        ):  # `package MODEL` is `package create MODEL`
            return unknown_options(found.commands["create"], words)
        if inner is None:
            return [words[0]]
        found = inner
        del words[0]
    return unknown_options(found, words)


def unknown_options(command, words):
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    known |= {"--version"} if command is edgedetr else set()
    given = [w.partition("=")[0] for w in words if re.match(r"--?[a-z]", w)]
    return [option for option in given if option not in known]


def test_a_command_that_is_not_there_is_found_out():
    (said,) = unknown("edgedetr no-such MODEL")
    assert said.startswith("no command 'no-such'")
    assert unknown("edgedetr data check ROOT --decode") == []
    assert unknown("edgedetr data check ROOT --no-such=1") == ["--no-such"]
    assert unknown("edgedetr package MODEL.onnx --key KEY --no-such") == ["--no-such"]
    assert unknown("edgedetr export no-such") == ["no-such"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_of_a_page_exist(page):
    wrong = {line: found for line in commands_of(page) if (found := unknown(line))}
    assert not wrong
