"""Whatever reads a file that somebody else made stops at a size, and at what is no regular file.

`edgedetr.runtime.files` has the readers with a limit. What reads in another way stands here, with
the reason why that is bounded.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("runtime", "distill", "calib", "export", "benchmarks/edgedetr")
WHOLE = {"read_text", "read_bytes", "readlines", "fromfile"}
"""Functions that read a file to its end; to open one may wait for ever, where it is a pipe."""
OF_A_MODULE = {("json", "load"), ("np", "load"), ("tomllib", "load"), ("onnx", "load")}
BOUNDED = {
    "benchmarks/edgedetr/bench/report/schema.py": "a file of the package",
    "benchmarks/edgedetr/bench/study/frames.py": "the study's own frames",
    "benchmarks/edgedetr/bench/study/pool.py": "the study's own log",
    "distill/edgedetr/distill/labels/shard_files.py": "parts of a size, of a regular file",
    "distill/edgedetr/distill/training/run_identity.py": "samples of files that a data set lists",
    "export/edgedetr/export/deploy/servable.py": "a file of a package, which has limits",
    "export/edgedetr/export/package/facts.py": "a file that is packed, hashed in blocks before",
    "export/edgedetr/export/package/write.py": "what the gates read before, and hashed",
    "export/edgedetr/export/search/layer_times.py": "ONNX Runtime's profile of a run here",
    "export/edgedetr/export/transforms/simplify.py": "what this process wrote",
    "export/edgedetr/graph/checksum.py": "behind a look at the size",
    "export/edgedetr/graph/model_file.py": "behind a look at the size, also of external data",
    "runtime/edgedetr/runtime/cuda/frame_kernel.py": "a file of the package",
    "runtime/edgedetr/runtime/device_check/system.py": "what the system says of itself",
    "runtime/edgedetr/runtime/files.py": "the readers with a limit, and hashes in blocks",
    "runtime/edgedetr/runtime/images/headers.py": "parts of a size, of a regular file",
    "runtime/edgedetr/runtime/images/jpeg_warnings.py": "what the decoder of one image wrote",
    "runtime/edgedetr/runtime/machine.py": "what the system says of itself",
    "runtime/edgedetr/runtime/package/archive.py": "blocks of files whose size it has checked",
    "runtime/edgedetr/runtime/sources/video_length.py": "boxes of a size, of a video that is open",
}
"""Modules that read whole files, and why there is a limit all the same."""


def unbounded(path):
    """Name the calls of a module that read a file to its end."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        opens = node.func.attr == "open" and any(
            isinstance(a, ast.Constant) and a.value == "rb" for a in node.args
        )
        without_size = node.func.attr == "read" and not node.args and owner in {"file", "lines"}
        if (
            node.func.attr in WHOLE
            or opens
            or without_size
            or (owner, node.func.attr) in OF_A_MODULE
        ):
            found.append(f"{node.func.attr} in line {node.lineno}")
    return found


@cache
def readers():
    files = [path for stage in STAGES for path in (ROOT / stage).rglob("*.py")]
    assert len(files) > 300
    found = {path.relative_to(ROOT).as_posix(): unbounded(path) for path in files}
    return {name: calls for name, calls in found.items() if calls}


def test_readers_are_seen(tmp_path):
    path = tmp_path / "m.py"
    text = "a.read_text()\njson.load(file)\nfile.read()\nfile.read(9)\nfiles.read_json(a)\n"
    path.write_text(text, encoding="utf-8")
    assert [call.split()[0] for call in unbounded(path)] == ["read_text", "load", "read"]


def test_every_reader_has_a_limit():
    unknown = {name: calls for name, calls in readers().items() if name not in BOUNDED}
    assert not unknown, "read with edgedetr.runtime.files: " + "; ".join(map(str, unknown.items()))


@pytest.mark.parametrize("name", BOUNDED)
def test_an_exception_is_one(name):
    assert name in readers()
