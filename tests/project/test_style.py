import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("runtime", "distill", "calib", "export", "benchmarks")
SOURCES = [p for stage in STAGES for p in sorted((ROOT / stage).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check():
    assert len(SOURCES) > 40
    assert len(TESTS) > 20


def test_files_have_at_most_400_lines():
    lines = {name(p): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES + TESTS}
    assert not {path: count for path, count in lines.items() if count > 400}


def test_functions_have_at_most_60_lines():
    long = [
        f"{name(path)}: {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long


def test_no_module_is_a_bag_of_helpers():
    bags = {"utils", "helpers", "base", "common", "misc"}
    assert not [name(path) for path in SOURCES if path.stem in bags]


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
