"""The notebooks of docs/notebooks run from their first cell to their last, in a new process."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
REFERENCE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def cells(notebook):
    """Return the cells of code of a notebook."""
    read = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in read["cells"] if cell["cell_type"] == "code"]


def script(notebook):
    return "\n\n".join("".join(cell["source"]) for cell in cells(notebook))


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["own_data", "signed_package"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(notebook):
    assert cells(notebook)
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells(notebook))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_imported_is_in_the_reference(notebook):
    found = re.findall(r"^from (edgedetr[\w.]*) import (.+)$", script(notebook), re.MULTILINE)
    assert found
    for module, names in found:
        for name in names.split(", "):
            assert hasattr(import_module(module), name)
            assert re.search(rf"^::: {re.escape(module)}(\.{name})?$", REFERENCE, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(notebook, tmp_path):
    """In a folder that has the checkpoints of a checkout and nothing else."""
    (tmp_path / "distill").symlink_to(ROOT / "distill")
    (tmp_path / "notebook.py").write_text(script(notebook), encoding="utf-8")
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=tmp_path,
        env={**os.environ, "PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    expected = {"own_data": r"AP \d\.\d+", "signed_package": r"older than"}
    assert re.search(expected[notebook.stem], done.stdout)
