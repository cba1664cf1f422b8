"""Read what Python bindings made with pybind11 offer, from their own docstrings.

`tensorrt_bindings.json` was written by

    python tests/project/bindings.py tests/project/tensorrt_bindings.json 10.3.0=FOLDER ...

where FOLDER holds an unpacked wheel of tensorrt-cu12-bindings or tensorrt-cu13-bindings of that
version. They import without TensorRT and without a GPU where LD_LIBRARY_PATH has empty libraries of
the names that they are linked with (libnvinfer.so.10, libnvonnxparser.so.10,
libnvinfer_plugin.so.10), with the few C functions that they name.
"""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

CLASSES = (
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "DeviceType",
    "EngineInspector",
    "EngineInvalidityDiagnostics",
    "EngineValidity",
    "HardwareCompatibilityLevel",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "ILogger.Severity",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
)
FUNCTIONS = ("init_libnvinfer_plugins",)


def members(module):
    """Describe the members of a module's classes.

    Returns:
        ``Class.member`` to ``value``, ``property -> TYPE`` or the overloads of a function, joined
        by " | ": ``name, other= -> TYPE``, where ``=`` marks what has a default.
    """
    found = {name: _function(getattr(module, name)) for name in FUNCTIONS}
    for name in CLASSES:
        kind = module
        for part in name.split("."):
            kind = getattr(kind, part, None)
        if kind is None:
            continue
        names = set(dir(kind)) - set(dir(object)) | {"__init__"}
        for member in sorted(n for n in names if n == "__init__" or not n.startswith("_")):
            value = getattr(kind, member)
            if isinstance(value, property):
                answer = re.search(r"-> (.*)", value.fget.__doc__ or "")
                found[f"{name}.{member}"] = f"property -> {_type(answer[1]) if answer else 'Any'}"
            elif callable(value) and not isinstance(value, type):
                found[f"{name}.{member}"] = _function(value)
            else:
                found[f"{name}.{member}"] = "value"
    return {name: described for name, described in found.items() if described != "unknown"}


def _function(function):
    name = re.escape(function.__name__)
    text = function.__doc__ or ""
    lines = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> (.*)$", text, re.MULTILINE)
    calls = [f"{_arguments(a)} -> {_type(r)}" for a, r in lines if a != "*args, **kwargs"]
    return " | ".join(calls) or "unknown"


def _arguments(text):
    """Return the names of arguments, without ``self``; types may hold commas."""
    while (plain := re.sub(r"\[[^\[\]]*\]", "", text)) != text:
        text = plain
    named = [part.strip() for part in text.split(", ") if part.strip()]
    names = [part.split(":")[0] + ("=" if " = " in part else "") for part in named]
    return ", ".join(name for name in names if name != "self")


def _type(text):
    name = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).strip()
    return "ParserError" if name == "nvonnxparser::IParserError" else name


def main(out, *versions):
    """Write a table of several versions; `members` runs in a process for each."""
    if not versions:
        sys.path.insert(0, out)
        print(json.dumps(members(import_module("tensorrt_bindings"))))  # noqa: T201
        return
    table: dict[str, dict[str, list[str]]] = {}
    sources = {}
    for version, _, folder in (text.partition("=") for text in versions):
        command = [sys.executable, __file__, folder]
        said = subprocess.run(command, capture_output=True, check=True).stdout
        for name, described in json.loads(said).items():
            table.setdefault(name, {}).setdefault(described, []).append(version)
        sources[version] = f"docstrings of the wheel {Path(folder).name}"
    lines = [f"  {json.dumps(n)}: {json.dumps(table[n])}" for n in sorted(table)]
    text = f'{{"versions": {json.dumps(sources, indent=1)},\n"members": {{\n' + ",\n".join(lines)
    Path(out).write_text(text + "\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
