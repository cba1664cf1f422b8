"""The tree: tests mirror the code, and no part depends on one that depends on it."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    path.name: path
    for root in ("runtime", "distill", "calib", "export", "benchmarks")
    for path in sorted((ROOT / root / "edgedetr").iterdir())
    if path.is_dir()
}
TESTS = sorted(p for name in PACKAGES for p in (ROOT / "tests" / name).rglob("test_*.py"))

STRINGS = {
    ("edgedetr.runtime.cli", "edgedetr.*"),  # collects the commands of what is installed
}

WITHOUT_A_TEST_FILE = {
    "edgedetr.calib.methods": "names alone; the test of scales takes each of them",
    "edgedetr.export.cli": "gathers the commands, which have test files of their own",
    "edgedetr.runtime.session": "protocols alone; the contract test of backends holds them",
}
"""Modules that hold nothing to test, and why."""


@cache
def modules():
    """Name of each module and package to its file."""
    found = {}
    for package in PACKAGES.values():
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(("edgedetr", *parts)).removesuffix(".__init__")] = path
    return found


@cache
def syntax(module):
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imports(module):
    """Name what a module imports anywhere: at its top, inside functions, for types alone."""
    found = set()
    for node in ast.walk(syntax(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = whole & modules().keys()
            found |= inner if inner == whole else {*inner, node.module}
    return found & modules().keys() - {module}


def circles(graph):
    """Return the groups of nodes of which each reaches each other, sorted."""
    reached = {}
    for start in graph:
        seen: set[str] = set()
        left = [start]
        while left:
            new = graph[left.pop()] - seen
            seen |= new
            left += new
        reached[start] = seen
    return {
        tuple(sorted(b for b in reached[a] if a in reached[b])) for a in graph if a in reached[a]
    }


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set()}
    assert circles(graph) == {("a", "b", "c")}
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == set()


def test_no_modules_import_each_other_in_a_circle():
    assert circles({module: imports(module) for module in modules()}) == set()


def named_in_strings(module):
    """Name the other stages' modules that a module hands to a function as a string."""
    for call in ast.walk(syntax(module)):
        for text in map(text_of, call.args if isinstance(call, ast.Call) else ()):
            found = re.fullmatch(r"edgedetr\.(\*|\w+)(\.[\w.*]+)?", text)
            if found and found[1] in {"*", *PACKAGES} - {module.split(".")[1]}:
                yield "edgedetr.*" if found[1] == "*" else text


def text_of(node):
    """Return a string as it stands in the source, with ``*`` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "*"


def test_no_stage_imports_another_through_a_string():
    found = {(module, name) for module in modules() for name in named_in_strings(module)}
    assert found == STRINGS


def test_a_test_file_of_nothing_is_found_out():
    assert has_its_subject(ROOT / "tests/export/test_to_onnx.py")
    assert not has_its_subject(ROOT / "tests/export/test_no_such_thing.py")
    assert not has_its_subject(ROOT / "tests/export/no_such_folder/test_to_onnx.py")


def test_each_test_file_lies_and_is_named_as_what_it_tests():
    astray = [str(p.relative_to(ROOT)) for p in TESTS if not has_its_subject(p)]
    assert not astray


def has_its_subject(path):
    """Tell whether a test file lies and is named as what it tests.

    ``tests/STAGE/FOLDER/test_NAME.py`` tests ``edgedetr.STAGE.FOLDER.NAME``.

    NAME is a module or a folder; behind it may stand an aspect: ``test_detector_faults.py``.
    Beside these there are

    - ``test_contract*.py``: what every component of the folder must do;
    - tests of a file beside them (``fuzz.py``), of the fakes in ``runtime/cuda``, or of a script of
      ``benchmarks/``.
    """
    folder = path.parent.relative_to(ROOT / "tests")
    homes = [PACKAGES[folder.parts[0]].joinpath(*folder.parts[1:]), path.parent]
    if path.stem == "test_fakes":  # of all of them
        return True
    if folder == Path("bench"):
        homes.append(ROOT / "benchmarks")
    known = {p.stem for home in homes if home.is_dir() for p in home.iterdir()} | {"contract"}
    words = path.stem.removeprefix("test_").split("_")
    return homes[0].is_dir() and any("_".join(words[:n]) in known for n in range(1, len(words) + 1))


def with_a_test_file():
    """Name the module that each test file is named after, the longest where several fit."""
    for path in TESTS:
        folder = ".".join(("edgedetr", *path.parent.relative_to(ROOT / "tests").parts))
        words = path.stem.removeprefix("test_").split("_")
        fitting = ("_".join(words[:n]) for n in range(len(words), 0, -1))
        yield next((m for name in fitting if (m := f"{folder}.{name}") in modules()), None)


def test_each_module_has_a_test_file_of_its_name():
    code = {m for m, path in modules().items() if path.name != "__init__.py"}
    assert code - set(with_a_test_file()) == WITHOUT_A_TEST_FILE.keys()
