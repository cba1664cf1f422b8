"""Each call of TensorRT's Python bindings, and each fake of them, against what versions offer.

`tensorrt_bindings.json` holds what the wheels of TensorRT 10.3 to 11.1 say of themselves, see
`bindings.py`; TensorRT-RTX is asked where it is installed.
"""

import ast
import inspect
import json
import re
import runpy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from typing_extensions import override

from edgedetr.export.engine.log import make_monitor

ROOT = Path(__file__).parents[2]
BINDINGS = runpy.run_path(str(Path(__file__).with_name("bindings.py")))
TABLE = json.loads(Path(__file__).with_name("tensorrt_bindings.json").read_text())
VERSIONS = list(TABLE["versions"])
RTX = "tensorrt_rtx"
BUILDERS = ROOT / "export/edgedetr/export/engine/builders"
SOURCES = sorted(
    path
    for folder in ("runtime", "export", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if re.search(r"\btrt\b", path.read_text())
)
PARAMETERS = {  # what functions are handed, and loops go over
    "configure": {"config": "IBuilderConfig"},
    "start_cache": {"config": "IBuilderConfig"},
    "save_cache": {"config": "IBuilderConfig"},
    "_fill": {"config": "IBuilderConfig", "cache": "ITimingCache"},
    "check_ends": {"tensor": "ITensor"},
    "network_precision": {"network": "INetworkDefinition", "layer": "ILayer"},
    "_reads_int8": {"layer": "ILayer", "tensor": "ITensor"},
    "_is_int8": {"tensor": "ITensor", "maker": "ILayer"},
    "write": {"severity": "ILogger.Severity"},
}
BEHIND_A_CHECK = {"EngineInvalidityDiagnostics"}  # asked for where get_engine_validity is
OF_EVERY_MODULE = {"__name__", "__version__"}
OF_EVERY_CLASS = {"__init__", "__members__", "__name__"}


def members(version):
    """What a version offers, as `bindings.members` describes it."""
    if version == RTX:
        if find_spec(RTX) is None:
            pytest.skip("tensorrt_rtx is not installed")
        return BINDINGS["members"](import_module(RTX))
    return {
        name: described
        for name, forms in TABLE["members"].items()
        for described, versions in forms.items()
        if version in versions
    }


class Calls(ast.NodeVisitor):
    """Follows what comes from ``trt`` through a file, and notes what the bindings lack.

    A type is ``module``, ``class NAME`` or the name of a class for its objects.
    """

    def __init__(self, tree, offered):
        self.offered, self.checked, self.wrong = offered, 0, []
        self.classes = {name.rpartition(".")[0] for name in offered if "." in name}
        self.types, self.local = {"trt": "module", "self._trt": "module"}, {}
        self.guarded = BEHIND_A_CHECK | {
            ast.unparse(node.args[1]).strip("'")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr"
        }
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        self.answers = {}
        for _ in range(4):  # an object is made from one that was made from one
            for function in functions or [tree]:
                self.follow(function)
        for function in functions or [tree]:
            self.follow(function)
            self.generic_visit(function)

    def follow(self, function):
        """Learn the types of names in a function, and of what it sets on ``self``."""
        self.local = dict(PARAMETERS.get(getattr(function, "name", ""), {}))
        for _ in range(3):
            for node in ast.walk(function):
                if isinstance(node, ast.Assign):
                    self.assign(node.targets[0], node.value)
                elif (
                    isinstance(node, ast.Return)
                    and node.value
                    and (found := self.type_of(node.value))
                ):
                    self.answers[f"self.{getattr(function, 'name', '')}"] = found

    @override
    def visit_FunctionDef(self, node):
        """Leave a function in a function to its own turn."""

    def assign(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=True):
                self.assign(one, other)
        elif found := self.type_of(value):
            name = ast.unparse(target)
            (self.types if name.startswith("self.") else self.local).setdefault(name, found)

    def type_of(self, node):
        name = ast.unparse(node)
        if found := self.types.get(name) or self.local.get(name):
            return found
        if isinstance(node, ast.Call):
            return self.answer_of(node)
        if isinstance(node, ast.Attribute):
            owner = self.type_of(node.value)
            if owner == "module":
                return f"class {node.attr}" if node.attr in self.classes else None
            if owner and owner.startswith("class ") and f"{owner[6:]}.{node.attr}" in self.classes:
                return f"{owner}.{node.attr}"
            return self.answered(owner, node.attr)
        return None

    def answer_of(self, call):
        made = self.type_of(call.func) or ""
        if made.startswith("class "):
            return made.removeprefix("class ")
        if found := self.answers.get(ast.unparse(call.func)):
            return found
        if not isinstance(call.func, ast.Attribute):
            return None
        return self.answered(self.type_of(call.func.value), call.func.attr)

    def answered(self, owner, name):
        """The class that a property is of or a method returns."""
        answer = self.offered.get(f"{owner}.{name}", "").rpartition("-> ")[2]
        return answer if answer in self.classes else None

    @override
    def visit_Attribute(self, node):
        self.generic_visit(node)
        owner = self.type_of(node.value)
        if owner is None or node.attr in self.guarded:
            return
        self.checked += 1
        name = f"{owner.removeprefix('class ')}.{node.attr}"
        if owner == "module":
            known = self.classes | OF_EVERY_MODULE | set(self.offered)
            is_there = node.attr in known
        else:
            is_there = name in self.offered
            is_there |= owner.startswith("class ") and node.attr in OF_EVERY_CLASS
        if not is_there:
            self.wrong.append(f"line {node.lineno}: there is no {name}")
        elif isinstance(node.ctx, ast.Store) and not self.offered[name].startswith("property"):
            self.wrong.append(f"line {node.lineno}: {name} cannot be set")

    @override
    def visit_Call(self, node):
        self.generic_visit(node)
        made = self.type_of(node.func) or ""
        name = f"{made.removeprefix('class ')}.__init__" if made.startswith("class ") else None
        if isinstance(node.func, ast.Attribute) and not name:
            owner = self.type_of(node.func.value)
            name = node.func.attr if owner == "module" else f"{owner}.{node.func.attr}"
        forms = self.offered.get(name or "")
        if forms is None or any(isinstance(a, ast.Starred) for a in node.args):
            return
        self.checked += 1
        keywords = {keyword.arg for keyword in node.keywords}
        if not any(fits(form, len(node.args), keywords) for form in forms.split(" | ")):
            self.wrong.append(f"line {node.lineno}: {ast.unparse(node)} does not fit {forms}")


def fits(form, positional, keywords=frozenset()):
    """Whether a call fits ``name, other= -> TYPE``."""
    names = [name for name in form.rpartition("-> ")[0].strip().split(", ") if name]
    rest = names[positional:]
    given = {name.rstrip("=") for name in rest}
    missing = {name for name in rest if not name.endswith("=")} - keywords
    return positional <= len(names) and keywords <= given and not missing


def concerns(path, version):
    """Whether a file runs with a version: the builders' own files run with one library."""
    return path.parent != BUILDERS or (path.stem == RTX) == (version == RTX)


@pytest.mark.parametrize("version", [*VERSIONS, RTX])
def test_each_call_exists_and_takes_what_it_is_given(version):
    offered, checked, wrong = members(version), 0, []
    for path in SOURCES:
        if concerns(path, version):
            calls = Calls(ast.parse(path.read_text()), offered)
            checked += calls.checked
            wrong += [f"{path.relative_to(ROOT)} {text}" for text in calls.wrong]
    assert not wrong, wrong
    assert checked > 100


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("trt.Runtime(log).deserialize_cuda_engine(data)", None),
        ("trt.Runtime().deserialize_cuda_engine(data)", "does not fit logger -> None"),
        ("trt.Runtimes(log)", "there is no module.Runtimes"),
        ("trt.BuilderFlag.FP16", "there is no BuilderFlag.FP16"),
        ("e = trt.Runtime(log).deserialize_cuda_engine(data); e.execute(1)", "ICudaEngine.execute"),
        ("e = trt.Builder(log); e.create_builder_config(1)", "does not fit"),
        ("e = trt.Builder(log); c = e.create_builder_config(); c.set_flag = 1", "cannot be set"),
        ("c = trt.Builder(log).create_builder_config(); c.set_flag(flags=1)", "does not fit"),
    ],
)
def test_a_wrong_call_is_found(code, wrong):
    found = Calls(ast.parse(code), members(VERSIONS[-1])).wrong
    assert found == [] if wrong is None else wrong in found[0]


def test_the_monitor_has_the_methods_of_the_bindings():
    names = {n.split(".")[1]: n for n in TABLE["members"] if n.startswith("IProgressMonitor.")}
    monitor = make_monitor(SimpleNamespace(IProgressMonitor=type("M", (), {})), None, lambda: False)
    for name in set(names) - {"__init__"}:
        (form,) = TABLE["members"][names[name]]
        wanted = form.rpartition(" -> ")[0].split(", ")
        assert list(inspect.signature(getattr(monitor, name)).parameters) == wanted


TRT = runpy.run_path(str(ROOT / "tests/runtime/cuda/fake_trt.py"))
BUILDER = runpy.run_path(str(ROOT / "tests/export/engine/fake_tensorrt.py"))
RUNTIME_FAKES = [
    (TRT["_Runtime"], "Runtime"),
    (TRT["_Engine"], "ICudaEngine"),
    (TRT["_ExecutionContext"], "IExecutionContext"),
    (TRT["DataType"], "DataType"),
    (TRT["TensorIOMode"], "TensorIOMode"),
]
BUILDER_FAKES = [
    (BUILDER["Cache"], "ITimingCache"),
    (BUILDER["Config"], "IBuilderConfig"),
    (BUILDER["Profile"], "IOptimizationProfile"),
    (BUILDER["Network"], "INetworkDefinition"),
    (BUILDER["Builder"], "Builder"),
    (BUILDER["OnnxParser"], "OnnxParser"),
    (BUILDER["Runtime"], "Runtime"),
]
RTX_FAKES = [
    (TRT["EngineValidity"], "EngineValidity"),
    (TRT["EngineInvalidityDiagnostics"], "EngineInvalidityDiagnostics"),
]


@pytest.mark.parametrize(
    ("fake", "real", "version"),
    [
        *((*pair, v) for pair in RUNTIME_FAKES for v in [*VERSIONS, RTX]),
        *((*pair, v) for pair in BUILDER_FAKES for v in VERSIONS),
        *((*pair, RTX) for pair in RTX_FAKES),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_fake_offers_what_the_bindings_do(fake, real, version):
    offered = members(version)
    own = {n: v for n, v in vars(fake).items() if not n.startswith("_")}
    own = {n: v for n, v in own.items() if n not in {"compute", "world", "settable"}}
    assert own
    for name in [*own, *getattr(fake, "settable", ())]:
        assert f"{real}.{name}" in offered
    for name, value in own.items():
        if inspect.isfunction(value):
            forms = offered[f"{real}.{name}"].split(" | ")
            count = len(inspect.signature(value).parameters) - 1
            assert any(fits(form, count) for form in forms), f"{name} takes {forms}"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_of_a_version_has_its_members_only(version):
    offered = members(version)
    fake, _ = BUILDER["fake_tensorrt"](version)
    for name, kind in vars(fake).items():
        for member in getattr(kind, "__members__", ()):
            assert f"{name}.{member}" in offered
