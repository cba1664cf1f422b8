"""Reports of every kind are what the published schema says, and nothing else."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.bench.report.schema import report_schema
from edgedetr.export.search.coverage_record import CoverageRecord, Step
from edgedetr.export.search.speed import Speed
from edgedetr.graph.checksum import model_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA: dict[str, Any] = json.loads(report_schema())
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
CHECKED = {
    "type", "enum", "minimum", "maximum", "pattern", "required", "properties", "items", "anyOf",
    "additionalProperties", "$ref", "$defs", "$schema", "title", "description",
}  # fmt: skip


def problems(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield where a value is not what a schema says, for the keywords that ours uses."""
    assert set(schema) <= CHECKED
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")] | schema
    if "anyOf" in schema and all(list(problems(value, s, place)) for s in schema["anyOf"]):
        yield f"{place}: none of anyOf"
    if not is_allowed(value, schema):
        yield f"{place}: {value!r} is not {schema}"
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), f"{place}[{index}]")
    if isinstance(value, dict):
        yield from of_object(value, schema, place)


def is_allowed(value: Any, schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", list(TYPES))
    fits = any(has_type(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    if has_type(value, "number"):
        fits &= schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, str):
        fits &= bool(re.search(schema.get("pattern", ""), value))
    return fits and value in schema.get("enum", [value])


def has_type(value: Any, kind: str) -> bool:
    return kind == "boolean" if isinstance(value, bool) else isinstance(value, TYPES[kind])


def of_object(value: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    yield from (f"{place}: no {key}" for key in schema.get("required", []) if key not in value)
    for key, item in value.items():
        if key in known or isinstance(rest, dict):
            yield from problems(item, known.get(key, rest), f"{place}.{key}")
        elif not rest:
            yield f"{place}: unknown {key}"


def read(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return values


def test_a_whole_run(reported_run: Path) -> None:
    assert list(problems(read(reported_run), SCHEMA)) == []


def test_a_bare_student(run: Path, kitti_root: Path) -> None:
    for path in run.iterdir():
        if path.name != "student.onnx":
            path.unlink()
    write_report(run, DataChoice(root=kitti_root))
    values = read(run)
    assert values["training"] is values["made_by"] is None
    assert list(problems(values, SCHEMA)) == []


def test_a_record_of_a_device(run: Path, device_record: Any) -> None:
    device_record(run / "student.onnx", folder=run, simulated=True)
    write_report(run, DataChoice())
    assert list(problems(read(run), SCHEMA)) == []


def test_frames_without_an_object(run: Path, kitti_root: Path) -> None:
    for path in (kitti_root / "training/label_2").iterdir():
        path.write_text("")
    write_report(run, DataChoice())
    assert read(run)["models"][0]["ap"] is None
    assert list(problems(read(run), SCHEMA)) == []


def test_an_undecided_gate_and_a_search(run: Path, parity: Any) -> None:
    parity(run, 19)
    CoverageRecord(
        int8="student.int8.onnx",
        model="student.onnx",
        model_sha256=model_sha256(run / "student.onnx"),
        command="edgedetr export qdq student.onnx --max-ap-drop 0.5",
        max_ap_drop=0.5,
        is_worth_it=True,
        coverage=0.75,
        frames=20,
        macs=100,
        fp32_ap=40.0,
        ap=None,
        chosen=("stem",),
        curve=(Step("stem", ("stem",), 0.25, 40.1, -0.1, kept=True),),
        blocks=(),
        speed=Speed("ONNX Runtime", 8.0, 9.0, 9.5, 1.12, 1.0),
    ).write(run / "student.int8.onnx")
    write_report(run, DataChoice())
    values = read(run)
    assert values["verdict"] == "undecided"
    assert len(values["coverage"]) == 1
    assert list(problems(values, SCHEMA)) == []


def test_what_lacks_a_figure_or_has_another_is_refused(reported_run: Path) -> None:
    values = read(reported_run)
    for key in values:
        assert list(problems({k: v for k, v in values.items() if k != key}, SCHEMA)), key
    for change in ({"ap": "0.4"}, {"ap": 40.0}, {"speed": 1}, {"sha256": "ab"}, {"name": True}):
        changed = copy.deepcopy(values)
        changed["models"][1] |= change
        assert len(list(problems(changed, SCHEMA))) == 1, change


def test_the_schema_is_one_of_json_schema(reported_run: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(read(reported_run))
