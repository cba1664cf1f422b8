"""The pipeline goes on to its report whatever the gates say, and only then fails."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]
SPREAD = re.compile(r"stages\.0/|fpn_blocks\.1/conv\d|stem3")
"""Layers with more than the fifth of the work for which INT8 would be worth it."""


def make(*arguments):
    """Run make in the project's folder with the environment that runs this test."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", "-o", ".venv/installed", *arguments],  # noqa: S607 - the user's own command
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def edgedetr(*arguments):
    code = "from edgedetr.runtime.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def spread_channels(path):
    """Give the inputs of some layers channels of very different size; all answers stay the same.

    A factor of two to the power of k before a layer and its inverse in the layer's weights are
    exact in FP32. One scale for the whole tensor, as in INT8, leaves nothing of the small channels.
    All other layers get their weights from a node, so that INT8 is not even tried there.
    """
    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    one = numpy_helper.from_array(np.ones((), np.float32), "one")
    model.graph.initializer.append(one)
    nodes = []
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type in {"Conv", "MatMul", "Gemm"} else None
        if weight is not None and SPREAD.search(node.name):
            nodes.append(spread_input(model.graph, node, numpy_helper.to_array(weight)))
        elif weight is not None:
            hidden = f"{node.name}/hidden"
            nodes.append(helper.make_node("Mul", [weight.name, one.name], [hidden], hidden))
            node.input[1] = hidden
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def spread_input(graph, node, weight):
    """Replace a layer's weights, and return the node that multiplies its input."""
    is_conv = node.op_type == "Conv"
    groups = next((a.i for a in node.attribute if a.name == "group"), 1) if is_conv else 1
    channels = weight.shape[1] * groups if is_conv else weight.shape[-2]
    factor = np.exp2(np.arange(channels) % 13 - 6).astype(np.float32)
    if is_conv:
        rows = factor.reshape(groups, 1, -1).repeat(weight.shape[0] // groups, 1)
        scaled = weight / rows.reshape(*weight.shape[:2], *([1] * (weight.ndim - 2)))
        factor = factor.reshape(-1, *([1] * (weight.ndim - 2)))
    else:
        scaled = weight / factor[:, None]
    before, names = node.input[0], [f"{node.name}/{what}" for what in ("factor", "scaled", "in")]
    graph.initializer.extend(map(numpy_helper.from_array, (factor, scaled), names))
    node.input[0], node.input[1] = names[2], names[1]
    return helper.make_node("Mul", [before, names[0]], [names[2]], f"{node.name}/spread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    edgedetr("data", "synth", folder, "--frames", 20, "--seed", 3)
    return folder


@pytest.fixture
def run(tmp_path, settled_model):
    """A run of a small student whose ONNX file INT8 cannot hold."""
    from edgedetr.distill.weights.checkpoint import save_model
    from edgedetr.export.to_onnx import export_onnx

    folder = tmp_path / "run"
    folder.mkdir()
    save_model(folder / "student.safetensors", settled_model(preset="edge-micro"), command="a test")
    export_onnx(folder / "student.safetensors", folder / "student.onnx")
    shutil.copyfile(folder / "student.onnx", folder / "teacher.onnx")
    (folder / "student.onnx.manifest.json").unlink()
    spread_channels(folder / "student.onnx")
    return folder


@pytest.mark.slow
def test_int8_that_cannot_pass_ends_with_a_red_report_and_exit_status_1(run, scenes):
    made = [f"{run}/{name}" for name in ("student.safetensors", "student.onnx", "teacher.onnx")]
    old = [argument for path in made for argument in ("-o", path)]
    variables = [f"RUN={run}", f"DATA={scenes}"]
    done = make(*old, "export", *variables)
    assert done.returncode == 2, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "INT8 is not worth it here" in done.stderr
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "failed"
    assert any("INT8 is not worth it here" in reason for reason in report["reasons"])
    assert 'class="verdict failed"' in (run / "report.html").read_text(encoding="utf-8")
    assert [m["name"] for m in report["models"]] == ["teacher", "student", "student.fp16"]
    assert not (run / "student.int8.onnx").exists()
    fp32 = json.loads((run / "verify.onnx.json").read_text(encoding="utf-8"))
    assert fp32["passed"], fp32["reason"]
    written = (run / "report.html").stat().st_mtime_ns
    again = make(*old, "report", *variables)
    assert again.returncode == 2, "a report that lies there must not hide its verdict"
    assert (run / "report.html").stat().st_mtime_ns == written


def test_all_parts_of_the_tests_run_and_those_that_failed_are_named(tmp_path):
    pytest_of_parts = tmp_path / "pytest"
    pytest_of_parts.write_text(
        '#!/bin/sh\necho "ran $2 $3"\ntest "$2" != tests/bad -a "$2" != tests/worse\n',
        encoding="utf-8",
    )
    pytest_of_parts.chmod(0o755)
    done = make("test", f"BIN={tmp_path}", "TESTS=worse good docstrings bad")
    lines = done.stdout.splitlines()
    assert sorted(line.split()[1] for line in lines if line.startswith("ran")) == [
        "runtime",
        "tests/bad",
        "tests/good",
        "tests/worse",
    ]
    assert lines[-1] == "failed: bad worse"
    assert done.returncode == 2
    assert make("test", f"BIN={tmp_path}", "TESTS=good").returncode == 0


def test_no_folder_of_tests_or_sources_is_left_out():
    tests = {
        f"tests/{p.relative_to(ROOT / 'tests').parts[0]}" for p in ROOT.glob("tests/**/test_*")
    }
    sources = {p.parent.name for p in ROOT.glob("*/edgedetr")}
    done = make("-n", "test")
    runs = [line.split() for line in done.stdout.splitlines() if "pytest -q" in line]
    ran = [
        folder for words in runs if words[0] != "echo" for folder in words[words.index("-q") + 1 :]
    ]
    assert tests | sources <= set(ran)
