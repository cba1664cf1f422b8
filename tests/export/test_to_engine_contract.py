"""How the builder talks to TensorRT 10.3 and 11, held by fakes of both."""

import ctypes
import json
import signal
import sys

import numpy as np
import onnx
import pytest

from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.cuda.device import CudaDevice, find_device
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

VERSIONS = ("10.3.0", "11.0.0")
SPEC = ModelSpec((4, 4), ("Car",))


class FakeCuda:
    """The CUDA driver's library on a Jetson Orin."""

    def __init__(self, failing=""):
        self.failing = failing

    def __getattr__(self, name):
        return lambda *arguments: 100 if name == self.failing else self.answer(name, *arguments)

    def answer(self, name, *arguments):
        if name == "cuDeviceGetName":
            arguments[0].value = b"Orin"
        if name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {75: 8, 76: 7}[arguments[1]]
        return 0


@pytest.fixture
def orin(monkeypatch):
    """A machine with a GPU of compute capability 8.7."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeCuda())


@pytest.fixture
def tensorrt(monkeypatch, fake_tensorrt, orin):  # noqa: ARG001 - the machine it is on
    """Installs a fake; returns the record of what it is asked for."""

    def install(version="10.3.0", **how):
        trt, seen = fake_tensorrt(version, **how)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        return seen

    return install


@pytest.fixture
def model(onnx_model, tmp_path):
    """Writes a Relu and a convolution, which is in FP16 between two casts with ``half``."""

    def write(name="net.onnx", batch=1, half=False):
        built = onnx_model(
            [("Relu", "first", ["images"], "x", {}), ("Conv", "conv", ["x", "w"], "y", {})],
            {"w": np.ones((2, 3, 1, 1))},
            inputs={"images": (batch, 3, 4, 4)},
            outputs=["y"],
            classes=1,
        )
        onnx.helper.set_model_props(built, {METADATA_KEY: SPEC.to_json()})
        if half:
            make_half(built)
        path = tmp_path / name
        onnx.save(built, path)
        return path

    return write


def make_half(model):
    """Cast to FP16 before the convolution and back behind it."""
    graph, half, full = model.graph, onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.to_array(graph.initializer[0]).astype(np.float16)
    graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    first, conv = graph.node
    first.output[0], conv.output[0] = "x32", "y16"
    narrow = onnx.helper.make_node("Cast", ["x32"], ["x"], "narrow", to=half)
    widen = onnx.helper.make_node("Cast", ["y16"], ["y"], "widen", to=full)
    nodes = [first, narrow, conv, widen]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)


@pytest.mark.parametrize("version", VERSIONS)
def test_types_come_from_the_graph_and_from_no_flag(tensorrt, model, tmp_path, version):
    seen = tensorrt(version)
    path = model("net.fp16.onnx", half=True)
    report = export_engine(path, tmp_path / "net.fp16.engine", EngineOptions(workspace_mib=64))
    assert seen.network._flags == 1 << 1  # STRONGLY_TYPED and nothing else
    assert seen.flags == set()
    assert [(pool.name, size) for pool, size in seen.pools.items()] == [("WORKSPACE", 64 << 20)]
    assert seen.profiles == []
    assert seen.cache is None
    assert report.builder == f"tensorrt=={version}"
    assert report.precision.macs == {"FP16": 1}
    assert report.precision.outputs == {"FP16": 2, "FP32": 2}
    assert report.layers == {"FP16": 1, "FP32": 1}
    assert report.weights_mib == 1.0


def test_the_manifest_of_a_version_compatible_engine_names_the_least_version(
    tensorrt, model, tmp_path
):
    tensorrt("10.3.0")
    export_engine(model(), tmp_path / "net.engine", EngineOptions(version_compatible=True))
    assert "tensorrt>=10.3.0" in read_manifest(tmp_path / "net.engine").versions


@pytest.mark.parametrize("version", VERSIONS)
def test_a_manifest_says_where_an_engine_runs(tensorrt, model, tmp_path, version):
    tensorrt(version)
    path, output = model(), tmp_path / "net.engine"
    export_engine(path, output, command="edgedetr export engine net.onnx")
    manifest = read_manifest(output)
    assert manifest.kind == "engine"
    assert manifest.targets == ("sm_87",)
    assert f"tensorrt=={version}" in manifest.versions
    assert [p.name for p in manifest.parents] == ["net.onnx"]
    assert manifest.spec == SPEC
    assert manifest.summary == (
        f"tensorrt=={version} for sm_87: 1 FP32 of 1 convolutions and matrix products; 2 FP32 of 2 "
        "layers; layers of the engine: 1 FP16, 1 FP32"
    )
    assert output.read_bytes() == f"plan of {version}".encode()
    log = (tmp_path / "net.engine.log").read_text(encoding="utf-8")
    assert log == "INFO: Total Weights Memory: 1048576 bytes\n"


def test_a_library_without_the_flag_is_strongly_typed_by_itself(
    tensorrt, model, monkeypatch, tmp_path
):
    seen = tensorrt("11.0.0")
    monkeypatch.setattr(sys.modules["tensorrt"], "NetworkDefinitionCreationFlag", object())
    export_engine(model(), tmp_path / "net.engine")
    assert seen.network._flags == 0


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"refit": True}, {"REFIT"}),
        ({"strip_weights": True}, {"STRIP_PLAN", "REFIT_IDENTICAL"}),
        ({"strip_weights": True, "refit": True}, {"STRIP_PLAN", "REFIT"}),
        ({"version_compatible": True}, {"VERSION_COMPATIBLE"}),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_options_are_the_flags_of_their_names(tensorrt, model, tmp_path, version, options, flags):
    seen = tensorrt(version)
    export_engine(model(), tmp_path / "net.engine", EngineOptions(**options))
    assert seen.flags == flags


def test_a_hardware_compatible_engine_names_every_later_gpu(tensorrt, model, tmp_path):
    seen = tensorrt()
    options = EngineOptions(hardware_compatible=True)
    report = export_engine(model(), tmp_path / "net.engine", options)
    assert seen.config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert report.targets == ("sm_80+",)


def test_a_free_batch_gets_a_profile(tensorrt, model, tmp_path):
    seen = tensorrt()
    export_engine(model(batch="N"), tmp_path / "net.engine", EngineOptions(batch=(1, 2, 4)))
    assert seen.profiles == [{"images": ((1, 3, 4, 4), (2, 3, 4, 4), (4, 3, 4, 4))}]


@pytest.mark.parametrize("monitored", [True, False])
def test_progress_is_told_where_the_library_can(tensorrt, model, tmp_path, monitored):
    seen, steps = tensorrt(monitored=monitored), []
    export_engine(model(), tmp_path / "net.engine", on_step=lambda *step: steps.append(step))
    told = [("Building engine", done, 2) for done in (0, 1, 2)]
    assert steps == (told if monitored else [])
    assert hasattr(seen.config, "progress_monitor") == monitored


def test_times_are_kept_for_the_next_build(tensorrt, model, tmp_path):
    cache = tmp_path / "times.cache"
    title = b"edgedetr timing cache for tensorrt==10.3.0 on Orin (sm_87)\n"
    cache.write_bytes(title + b"earlier")
    tensorrt()
    report = export_engine(model(), tmp_path / "a.engine", EngineOptions(timing_cache=cache))
    assert cache.read_bytes() == title + b"earlier timed"
    assert report.notes == ()
    cache.unlink()
    export_engine(model(), tmp_path / "b.engine", EngineOptions(timing_cache=cache))
    assert cache.read_bytes() == title + b"timed"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"tensorrt==10.7.0 on Orin (sm_87)\nold", "was timed with tensorrt==10.7.0 on Orin"),
        (b"tensorrt==10.3.0 on Thor (sm_110)\nold", "this is tensorrt==10.3.0 on Orin (sm_87)"),
        (b"tensorrt==10.3.0 on Orin (sm_87)\ndamaged", "is refused by tensorrt==10.3.0"),
    ],
)
def test_times_of_others_are_neither_used_nor_lost(tensorrt, model, tmp_path, content, note):
    cache = tmp_path / "times.cache"
    content = b"edgedetr timing cache for " + content
    cache.write_bytes(content)
    seen = tensorrt()
    report = export_engine(model(), tmp_path / "net.engine", EngineOptions(timing_cache=cache))
    assert len(report.notes) == 1
    assert note in report.notes[0]
    assert cache.read_bytes() == content
    assert seen.cache._entries == {"timed"}


def test_any_other_file_is_no_timing_cache(tensorrt, model, tmp_path):
    tensorrt()
    path = model()
    with pytest.raises(ArtifactError, match=r"net\.onnx is no timing cache that edgedetr wrote"):
        export_engine(path, tmp_path / "net.engine", EngineOptions(timing_cache=path))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_build_says_why_and_leaves_its_log_alone(tensorrt, model, tmp_path, version):
    tensorrt(version, fails="[optimizer.cpp::computeCosts] Error Code 10: no\nimplementation")
    output = tmp_path / "net.engine"
    wanted = rf"tensorrt=={version} cannot build .*no implementation \(workspace 1024 MiB\)"
    with pytest.raises(ArtifactError, match=wanted):
        export_engine(model(), output)
    assert not output.exists()
    assert not manifest_path(output).exists()
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.engine.log"}
    assert "ERROR: [optimizer.cpp" in (tmp_path / "net.engine.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("monitored", [True, False])
def test_ctrl_c_ends_a_build_and_writes_no_engine(tensorrt, model, tmp_path, edgedetr, monitored):
    """What a callback raises is lost in the library, which goes on."""
    tensorrt(interrupt=signal.SIGINT, monitored=monitored)
    before = signal.getsignal(signal.SIGINT)
    status, out, err = edgedetr("export", "engine", model(), "--backend", "tensorrt")
    assert (status, out, err.strip()) == (130, "", "edgedetr: stopped")
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.engine.log"}
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_a_build_as_it_ends_the_rest_of_the_command(tensorrt, model, tmp_path):
    tensorrt(interrupt=signal.SIGTERM)

    def end(number, _):
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit, match="143"):
            export_engine(model(), tmp_path / "net.engine")
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx", "net.engine.log"}


def test_a_node_that_the_parser_refuses_is_named(tensorrt, model, tmp_path):
    tensorrt(unread=("/decoder/grid", "GridSample", "Assertion failed:\n mode"))
    wanted = r"net\.onnx: node /decoder/grid \(GridSample\): Assertion failed: mode"
    with pytest.raises(ArtifactError, match=wanted):
        export_engine(model(), tmp_path / "net.engine")


def test_a_builder_that_does_not_start_says_why(tensorrt, model, tmp_path):
    tensorrt(starts=False)
    with pytest.raises(ArtifactError, match=r"10\.3\.0 does not start: CUDA initialization fail"):
        export_engine(model(), tmp_path / "net.engine")


@pytest.mark.parametrize("output", ["net.fp16.engine", "net.int8.engine"])
def test_a_name_that_lies_about_the_types_is_refused(tensorrt, model, tmp_path, output):
    tensorrt()
    kind = output.split(".")[1].upper()
    with pytest.raises(GateError, match=f"is named {kind} and has none: it computes in 1 FP32"):
        export_engine(model(), tmp_path / output)
    assert not (tmp_path / output).exists()


def test_other_devices_need_their_own_build(tensorrt, model, tmp_path):
    tensorrt()
    options = EngineOptions(compute_capabilities=("8.7", "8.6"))
    with pytest.raises(UsageError, match=r"here Orin with compute capability 8\.7; found .* 8\.6:"):
        export_engine(model(), tmp_path / "net.engine", options)
    export_engine(model(), tmp_path / "a.engine", EngineOptions(compute_capabilities=("8.7",)))


def test_an_old_version_is_refused(tensorrt, model, tmp_path):
    tensorrt("8.6.1")
    with pytest.raises(UsageError, match=r"tensorrt 8\.6\.1 found, 10\.3 or later wanted"):
        export_engine(model(), tmp_path / "net.engine")


def test_tensorrt_needs_a_gpu(tensorrt, model, monkeypatch, tmp_path):
    tensorrt()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeCuda(failing="cuInit"))
    with pytest.raises(ArtifactError, match="builds on a GPU and this machine has none; build on"):
        export_engine(model(), tmp_path / "net.engine")


def test_what_to_install_is_said(monkeypatch, model, tmp_path):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArtifactError, match=r"edgedetr\[tensorrt\].*edgedetr\[tensorrt-rtx\]"):
        export_engine(model(), tmp_path / "net.engine")


@pytest.mark.usefixtures("orin")
def test_the_driver_describes_its_gpu():
    assert find_device() == CudaDevice("Orin", "8.7")
    assert CudaDevice("Orin", "8.7").target == "sm_87"


def test_old_manifests_have_no_targets(tmp_path, tensorrt, model):
    tensorrt()
    output = tmp_path / "net.engine"
    export_engine(model(), output)
    values = json.loads(manifest_path(output).read_text(encoding="utf-8"))
    del values["targets"]
    manifest_path(output).write_text(json.dumps(values), encoding="utf-8")
    assert read_manifest(output).targets == ()
