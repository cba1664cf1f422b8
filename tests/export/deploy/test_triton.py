import re
from typing import Any

import onnx
import pytest

from edgedetr.export.deploy.triton import MODEL, quoted, write_repository
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.spec import ModelSpec

ENGINE = "models/m.engine"
TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*("(?:[^"\\]|\\.)*"|[\[\]{}:,]|[\w.+-]+)')


def read_pbtxt(text):
    """Read the text format of protobuf: a dictionary of lists of values."""
    tokens = TOKEN.findall(text + "\n")
    return _message(tokens)


def _message(tokens):
    fields: dict[str, list[Any]] = {}
    while tokens and tokens[0] != "}":
        name = tokens.pop(0)
        if tokens[0] == ":":
            tokens.pop(0)
        values = fields.setdefault(name, [])
        if tokens[0] != "[":
            values.append(_value(tokens))
            continue
        tokens.pop(0)
        while tokens[0] != "]":
            values.append(_value(tokens))
            if tokens[0] == ",":
                tokens.pop(0)
        tokens.pop(0)
    return fields


def _value(tokens):
    found = tokens.pop(0)
    if found == "{":
        message = _message(tokens)
        tokens.pop(0)
        return message
    if found.startswith('"'):
        return re.sub(r"\\(.)", r"\1", found[1:-1])
    return int(found) if re.fullmatch(r"-?\d+", found) else found


def test_a_repository_of_an_onnx_model(packaged, tmp_path):
    write_repository(packaged(), tmp_path / "made")
    folder = tmp_path / "made" / MODEL
    found = read_pbtxt((folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert found["name"] == [MODEL]
    assert (found["platform"], found["backend"]) == (["onnxruntime_onnx"], ["onnxruntime"])
    assert found["max_batch_size"] == [0]
    images = {"name": ["images"], "data_type": ["TYPE_FP32"], "dims": [1, 3, 8, 16]}
    assert found["input"] == [images]
    assert [(o["name"], o["dims"]) for o in found["output"]] == [
        (["logits"], [1, 2, 2]),
        (["boxes"], [1, 2, 4]),
    ]
    assert found["instance_group"] == [{"count": [1], "kind": ["KIND_AUTO"]}]
    served = onnx.load(folder / "1" / found["default_model_filename"][0])
    assert served.graph.input[0].name == "images"
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "Car\nPedestrian\n"
    assert "not run" in (tmp_path / "made/README.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="exists; remove it"):
        write_repository(packaged(), tmp_path / "made")


def test_an_engine_is_served_by_tensorrt(packaged, tmp_path):
    write_repository(packaged(engine="tensorrt>=10.3.0"), tmp_path / "made", ENGINE)
    folder = tmp_path / "made" / MODEL
    found = read_pbtxt((folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert (found["platform"], found["backend"]) == (["tensorrt_plan"], ["tensorrt"])
    assert found["instance_group"][0]["kind"] == ["KIND_GPU"]
    assert (folder / "1/model.plan").read_bytes() == b"engine"


def test_names_are_quoted(packaged, tmp_path):
    name = 'a "b" \\'
    write_repository(
        packaged(ModelSpec((8, 16), ("Car", "Van"), logits_name=name)), tmp_path / "made"
    )
    text = (tmp_path / "made" / MODEL / "config.pbtxt").read_text(encoding="utf-8")
    assert read_pbtxt(text)["output"][0]["name"] == [name]
    assert read_pbtxt(f"name: {quoted(name)}") == {"name": [name]}
