"""Every attack in docs/security.md names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split(" | ")]
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| attack |")
]


@cache
def names_in(path):
    """Name the tests of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_is_read():
    assert len(ROWS) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_an_attack_names_tests_that_exist(row):
    attack, what_happens, held_by = row
    assert attack
    assert what_happens
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", held_by)
    assert len(named) == held_by.count("::") >= 1
    for path, test in named:
        assert test in names_in(path), f"{path} has no {test}"
