"""The command that builds engines: its files, and wrong requests in one line each."""

import json

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorrt_rtx")

from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
RTX = ("--backend", "tensorrt_rtx")


def test_the_command_writes_an_engine_its_manifest_and_its_log(edgedetr, tiny_onnx, tmp_path):
    path = tiny_onnx()
    status, out, err = edgedetr(
        *("export", "engine", path, *RTX),
        *("--compute-capability", "8.6", "--compute-capability", "8.9"),
        *("--json", tmp_path / "figures.json"),
    )
    assert (status, err) == (0, "")
    output = tmp_path / "tiny.engine"
    assert out.startswith(f"{output}: tensorrt_rtx==")
    assert "MiB, of which weights" in out
    assert {p.name for p in tmp_path.iterdir()} == {
        "tiny.onnx",
        "tiny.engine",
        "tiny.engine.log",
        "tiny.engine.manifest.json",
        "figures.json",
    }
    found = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert found["targets"] == ["sm_86", "sm_89"]
    assert found["file_mib"] > found["weights_mib"] > 0
    manifest = read_manifest(output)
    assert manifest.targets == ("sm_86", "sm_89")
    assert [(p.name, p.sha256) for p in manifest.parents] == [("tiny.onnx", sha256(path))]
    assert any(v.startswith("tensorrt_rtx==1.") for v in manifest.versions)
    assert manifest.spec == SPEC
    assert manifest.command.startswith("edgedetr export engine")
    assert "INFO: Opset version: 17" in (tmp_path / "tiny.engine.log").read_text(encoding="utf-8")


def of_operator(op, domain=""):
    """A model with an operator between its input and its output."""
    value = onnx.helper.make_tensor_value_info
    shape = [1, 3, 8, 16]
    nodes = [
        onnx.helper.make_node(op, ["images"], ["x"], "/odd", domain=domain),
        onnx.helper.make_node("Add", ["images", "x"], ["y"], "/add"),
    ]
    fixed = {"logits": [[[-4.0]]], "boxes": [[[0.5] * 4]]}
    constants = [onnx.numpy_helper.from_array(np.array(v, np.float32), n) for n, v in fixed.items()]
    answers = [value("logits", 1, [1, 1, 1]), value("boxes", 1, [1, 1, 4])]
    ends = [value("images", 1, shape)], [value("y", 1, shape), *answers]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    graph = onnx.helper.make_graph(nodes, "net", *ends, constants)
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    spec = ModelSpec((8, 16), ("Car",))
    onnx.helper.set_model_props(model, {"edgedetr.spec": spec.to_json()})
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "m.onnx is missing; wanted an ONNX model"),
        (b"\x08\x08", "m.onnx: not a whole ONNX model"),
        (of_operator("Frob", "mine"), "operators that ONNX does not define: mine.Frob (at /odd)"),
        (of_operator("Det"), "m.onnx: node /odd (Det):"),
    ],
)
def test_a_bad_model_is_one_line(edgedetr, tmp_path, content, message):
    path, output = tmp_path / "m.onnx", tmp_path / "m.engine"
    if content:
        path.write_bytes(content)
    status, out, err = edgedetr("export", "engine", path, *RTX)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("batch", "arguments", "told"),
    [
        (1, ("--backend", "tensort"), (2, "did you mean 'tensorrt'?")),
        (1, ("-o", "tiny.plan"), (2, "tiny.plan: wanted a name that ends in .engine")),
        (1, ("--compute-capability", "sm_86"), (2, "wanted a number such as 8.6")),
        (1, ("--compute-capability", "9.0"), (2, "choose from 7.5, 8.0, 8.6, 8.9, 12.0")),
        (1, ("--batch", "1,2"), (2, "wanted three numbers MIN,OPT,MAX")),
        (1, ("--batch", "4,2,1"), (2, "1 <= MIN <= OPT <= MAX")),
        (1, ("--batch", "1,1,4"), (2, "has a static batch of 1; leave out --batch")),
        ("N", (), (2, "has a dynamic batch (N); give --batch MIN,OPT,MAX")),
        (1, ("--timing-cache", "t"), (2, "has no timing cache; leave out --timing-cache")),
        (1, ("--version-compatible",), (2, "leave out --version-compatible")),
        (1, ("--hardware-compatible",), (2, "runs on every GPU from 8.0 up")),
    ],
)
def test_a_wrong_request_is_one_line(edgedetr, tiny_onnx, tmp_path, batch, arguments, told):
    backend = () if "--backend" in arguments else RTX
    code, out, err = edgedetr("export", "engine", tiny_onnx(batch=batch), *backend, *arguments)
    assert (code, out) == (told[0], "")
    assert told[1] in err
    assert err.count("\n") == 1
    assert {p.suffix for p in tmp_path.iterdir()} == {".onnx"}
