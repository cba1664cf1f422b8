"""The command that writes Q/DQ nodes: its files, what the rest computes in, what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from edgedetr.calib.stats import CalibrationStats, TensorRange, read_stats
from edgedetr.export.to_qdq import export_qdq
from edgedetr.graph.exact import exact_graph
from edgedetr.graph.metadata import int8_target
from edgedetr.graph.wiring import element_types
from edgedetr.runtime.cli import edgedetr
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Build = Callable[..., onnx.ModelProto]

pytestmark = pytest.mark.usefixtures("few_channels")

SPEC = ModelSpec((4, 4), ("Car",))


def stats_of(amax: Mapping[str, float], model_sha256: str) -> CalibrationStats:
    ranges = tuple(TensorRange(name, value, value) for name, value in amax.items())
    return CalibrationStats("net.onnx", model_sha256, SPEC, "max", 100.0, 1, "", ranges)


def run(model: onnx.ModelProto, images: NDArray[Any], *, exact: bool = True) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    out: NDArray[np.float32] = session.run(None, {"images": images})[0]
    return out


@pytest.fixture
def files(tmp_path: Path, onnx_model: Build) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    model = onnx_model(
        [
            ("Conv", "stem", ["images", "w"], "x", {}),
            ("Relu", "", ["x"], "r", {}),
            ("Conv", "next", ["r", "w2"], "y", {"pads": [2, 2, 2, 2]}),
        ],
        {"w": rng.normal(size=(2, 3, 1, 1)), "w2": rng.normal(size=(64, 2, 5, 5))},
        inputs={"images": (1, 3, 4, 4)},
        outputs=["y"],
        classes=1,
    )
    path, stats_path = tmp_path / "student.onnx", tmp_path / "student.calib.json"
    onnx.save(model, path)
    stats_of({"images": 1.0, "x": 1.0, "r": 1.0}, sha256(path)).write(stats_path)
    return path, stats_path


def test_the_command_writes_a_smaller_model_and_its_manifest(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    args = ["export", "qdq", str(path), str(stats_path), "--exclude", "no|next"]
    assert isinstance(CliRunner().invoke(edgedetr, args).exception, ArtifactError)
    assert sorted(path.parent.iterdir()) == sorted(files)

    figures = path.with_name("figures.json")
    asked = [*args[:4], "--json", str(figures)]
    result = CliRunner().invoke(edgedetr, asked, catch_exceptions=False)
    found = json.loads(figures.read_text("utf-8"))
    assert (found["nodes"], found["convolutions"]) == (1, 2)
    assert found["int8_macs"] / found["macs"] == pytest.approx(0.998, abs=5e-4)
    out = path.with_name("student.int8.onnx")
    assert re.search(
        r"student\.int8\.onnx: 1 node in INT8 of 2 convolutions; 99\.8% of 0\.000 GMACs; "
        "the rest FP16, in FP32 none",
        result.output,
    )
    assert out.stat().st_size < path.stat().st_size / 2
    manifest = read_manifest(out)
    assert (manifest.kind, manifest.spec) == ("qdq", SPEC)
    assert (
        manifest.command
        == "edgedetr export qdq student.onnx student.calib.json --for tensorrt --rest fp16"
    )
    assert [p.name for p in manifest.parents] == ["student.onnx", "student.calib.json"]
    assert "99.8%" in manifest.summary
    assert (manifest.targets, int8_target(onnx.load(out))) == (("tensorrt",), "tensorrt")
    props = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert json.loads(props[METADATA_KEY]) == json.loads(SPEC.to_json())
    assert "onnx==" in props["edgedetr.versions"]


def test_for_a_cpu_activations_are_uint8_and_the_rest_is_fp32(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    args = ["export", "qdq", str(path), str(stats_path), "--for", "openvino"]
    error = CliRunner().invoke(edgedetr, args).exception
    assert isinstance(error, ArtifactError)
    assert "no uint8 range for r, which openvino needs" in str(error)

    stats = read_stats(stats_path)
    ranges = tuple(replace(r, low=-0.5, high=1.0) for r in stats.ranges)
    replace(stats, ranges=ranges).write(stats_path)
    CliRunner().invoke(edgedetr, args, catch_exceptions=False)
    out = path.with_name("student.int8.onnx")
    model = onnx.load(out)
    zeros = {t.name: t for t in model.graph.initializer if t.name.endswith("uint8_85_zero_point")}
    assert [t.data_type for t in zeros.values()] == [onnx.TensorProto.UINT8]
    assert not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    manifest = read_manifest(out)
    assert manifest.targets == ("openvino",)
    assert manifest.command.endswith("student.calib.json --for openvino --rest fp32")
    assert int8_target(model) == "openvino"


def test_beside_int8_everything_is_fp16_and_the_numbers_stay(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    half, single = path.with_name("half.onnx"), path.with_name("single.onnx")
    export_qdq(path, stats_path, half)
    export_qdq(path, stats_path, single, rest="fp32")
    model = onnx.load(half)
    onnx.checker.check_model(model, full_check=True)
    types = element_types(onnx.shape_inference.infer_shapes(model))
    pairs = [n for n in model.graph.node if n.op_type.endswith("uantizeLinear")]
    assert len(pairs) == 3
    assert {types[n.input[1]] for n in pairs} == {onnx.TensorProto.FLOAT16}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert {types[n.output[0]] for n in convolutions} == {onnx.TensorProto.FLOAT16}
    assert {types[v.name] for v in (*model.graph.input, *model.graph.output)} == {
        onnx.TensorProto.FLOAT
    }
    assert {o.version for o in model.opset_import} == {19}
    assert {o.version for o in onnx.load(single).opset_import} == {17}
    images = np.random.default_rng(2).random((1, 3, 4, 4), np.float32)
    a, b = run(exact_graph(model).model, images), run(onnx.load(single), images)
    assert 0 < np.abs(a - b).max() < 0.02 * np.abs(b).max()


def test_what_calibration_saw_overflow_stays_fp32(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    stats, out = read_stats(stats_path), path.with_name("out.onnx")
    assert "range" not in export_qdq(path, stats_path, out).describe()
    replace(stats, magnitudes={"y": 70_000.0}).write(stats_path)
    assert "range" in export_qdq(path, stats_path, out).describe()
    model = onnx.load(out)
    types = element_types(model)
    types_by_name = {n.name: types[n.output[0]] for n in model.graph.node if n.op_type == "Conv"}
    assert types_by_name == {"stem": onnx.TensorProto.FLOAT16, "next": onnx.TensorProto.FLOAT}


def test_the_manifest_names_spec_and_images(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    spec, images = path.with_name("the spec.toml"), path.with_name("frames")
    spec.write_text('input_hw = [4, 4]\nclass_names = ["Car"]\n', encoding="utf-8")
    images.mkdir()
    cv2.imwrite(str(images / "0.png"), np.full((4, 4, 3), 99, np.uint8))
    args = ["export", "qdq", str(path), str(stats_path), "--spec", str(spec)]
    CliRunner().invoke(edgedetr, [*args, "--images", str(images)], catch_exceptions=False)
    assert read_manifest(path.with_name("student.int8.onnx")).command == (
        "edgedetr export qdq student.onnx student.calib.json --for tensorrt --rest fp16 "
        "--spec 'the spec.toml' --images frames"
    )


def test_stats_of_another_spec_are_refused(files: tuple[Path, Path]) -> None:
    other = replace(SPEC, mean=(0.5, 0.5, 0.5))
    with pytest.raises(ArtifactError, match=r"made with mean \(0.0, 0.0, 0.0\), --spec says \(0.5"):
        export_qdq(*files, files[0].with_name("out.onnx"), spec=other)


def test_int8_kernels_are_near_the_exact_result(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    out = path.with_name("out.onnx")
    export_qdq(path, stats_path, out, rest="fp32")
    model, images = onnx.load(out), np.random.default_rng(1).random((1, 3, 4, 4), np.float32)
    exact, fast = run(model, images), run(model, images, exact=False)
    reference = run(onnx.load(path), images)
    assert np.abs(exact - reference).max() < 0.2 < np.abs(reference).max()
    assert np.abs(fast - reference).max() < 0.4


def test_files_that_are_refused_leave_nothing_behind(files: tuple[Path, Path]) -> None:
    path, stats_path = files
    with pytest.raises(UsageError, match="is an input of the same command"):
        export_qdq(path, stats_path, path)
    path.write_bytes(path.read_bytes() + b"\x72\x00")
    with pytest.raises(ArtifactError, match="the calibration was made with net"):
        export_qdq(path, stats_path, path.with_name("out.onnx"))
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    stats_of({"images": 1.0, "x": 1.0, "r": 1.0}, sha256(path)).write(stats_path)
    with pytest.raises(GateError, match=r"student.onnx would break in TensorRT: y: INT64"):
        export_qdq(path, stats_path, path.with_name("out.onnx"))
    assert sorted(path.parent.iterdir()) == sorted(files)
