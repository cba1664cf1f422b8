import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("runtime", "distill", "calib", "export", "benchmarks")
SOURCES = [p for stage in STAGES for p in sorted((ROOT / stage).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check():
    assert len(SOURCES) > 40
    assert len(TESTS) > 20


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name)
def test_files_have_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_have_at_most_60_lines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 60]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_module_is_a_bag_of_helpers(path):
    assert path.stem not in {"utils", "helpers", "base", "common", "misc"}


def test_every_component_folder_lists_only_components():
    """A file of such a folder is found by its name, so nothing else may lie there."""
    from importlib import import_module

    from edgedetr.runtime.plugins import names

    wanted = {
        "edgedetr.distill.augmentations": "apply",
        "edgedetr.distill.detectors": "build",
        "edgedetr.distill.methods": "build",
        "edgedetr.distill.data": "open_dataset",
        "edgedetr.runtime.backends": "open_session",
    }
    for package, function in wanted.items():
        for component in names(package):
            module = import_module(f"{package}.{component}")
            assert callable(getattr(module, function, None)), f"{package}.{component}"
