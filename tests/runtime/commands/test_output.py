from pathlib import Path

import pytest

from edgedetr.runtime.commands.output import echo

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
