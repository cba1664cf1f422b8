"""How the builder talks to TensorRT 10.3 and 11, held by fakes of both."""

import json
import sys

import numpy as np
import onnx
import pytest

from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.graph.sampling_plugin import DOMAIN, PLUGIN, define_plugin
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.manifest import manifest_path, read_manifest
from edgedetr.runtime.spec import ModelSpec

VERSIONS = ("10.3.0", "11.0.0")
SPEC = ModelSpec((4, 4), ("Car",))


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
    assert report.layers
    assert report.layers.types == {"FP16": 1, "FP32": 1}
    assert report.weights_mib == 1.0


def test_the_manifest_of_a_version_compatible_engine_names_the_least_version(
    tensorrt, model, tmp_path
):
    tensorrt("10.3.0")
    export_engine(model(), tmp_path / "net.engine", EngineOptions(version_compatible=True))
    manifest = read_manifest(tmp_path / "net.engine")
    assert "tensorrt>=10.3.0" in manifest.versions
    assert "layers of the engine: 1 FP16, 1 FP32" in manifest.summary


@pytest.mark.parametrize("characters", [0, 1, 40])
def test_a_broken_list_of_layers_does_not_lose_the_engine(tensorrt, model, tmp_path, characters):
    seen = tensorrt()
    seen.inspected_characters = characters
    assert export_engine(model(), tmp_path / "net.engine").layers is None
    assert (tmp_path / "net.engine").is_file()


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
        ({}, set()),
        ({"tf32": True}, {"TF32"}),
        ({"version_compatible": True}, {"VERSION_COMPATIBLE"}),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_options_are_the_flags_of_their_names(tensorrt, model, tmp_path, version, options, flags):
    seen = tensorrt(version)
    export_engine(model(), tmp_path / "net.engine", EngineOptions(**options))
    assert seen.flags == flags


def test_a_free_batch_gets_a_profile(tensorrt, model, tmp_path):
    seen = tensorrt()
    export_engine(model(batch="N"), tmp_path / "net.engine", EngineOptions(batch=(1, 2, 4)))
    assert seen.profiles == [{"images": ((1, 3, 4, 4), (2, 3, 4, 4), (4, 3, 4, 4))}]


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


def test_a_node_that_the_parser_refuses_is_named(tensorrt, model, tmp_path):
    tensorrt(unread=("/decoder/grid", "GridSample", "Assertion failed:\n mode"))
    wanted = r"net\.onnx: node /decoder/grid \(GridSample\): Assertion failed: mode"
    with pytest.raises(ArtifactError, match=wanted):
        export_engine(model(), tmp_path / "net.engine")


def test_a_builder_that_does_not_start_says_why(tensorrt, model, tmp_path):
    tensorrt(starts=False)
    with pytest.raises(ArtifactError, match=r"10\.3\.0 does not start: CUDA initialization fail"):
        export_engine(model(), tmp_path / "net.engine")


def test_old_manifests_have_no_targets(tmp_path, tensorrt, model):
    tensorrt()
    output = tmp_path / "net.engine"
    export_engine(model(), output)
    values = json.loads(manifest_path(output).read_text(encoding="utf-8"))
    del values["targets"]
    manifest_path(output).write_text(json.dumps(values), encoding="utf-8")
    assert read_manifest(output).targets == ()


@pytest.fixture
def sampling(model, tmp_path):
    """A model whose image is read by a plugin of TensorRT: a map for each of its 3 lines."""
    net = onnx.load(model("sampling.onnx"))
    constants = {
        "sides": np.array([[2, 2]], np.int32),
        "starts": np.zeros(1, np.int32),
        "places": np.full((1, 4, 1, 1, 4, 2), 0.5, np.float32),
        "weights": np.ones((1, 4, 1, 1, 4), np.float32),
        "maps": np.array([1, 4, 1, 12]),
        "images_again": np.array([1, 3, 4, 4]),
    }
    net.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name) for name, values in constants.items()
    )
    named, reads = {"plugin_version": "1", "plugin_namespace": ""}, ["sides", "starts"]
    nodes = [
        onnx.helper.make_node("Reshape", ["images", "maps"], ["value"], "split"),
        onnx.helper.make_node(
            *(PLUGIN, ["value", *reads, "places", "weights"], ["read"], "attention"),
            domain=DOMAIN,
            **named,
        ),
        onnx.helper.make_node("Reshape", ["read", "images_again"], ["sampled"], "joined"),
    ]
    net.graph.node[0].input[0] = "sampled"
    for node in reversed(nodes):
        net.graph.node.insert(0, node)
    define_plugin(net)
    path = tmp_path / "sampling.onnx"
    onnx.save(net, path)
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plugin_is_one_layer_where_the_library_has_it(tensorrt, sampling, tmp_path, version):
    seen = tensorrt(version)
    seen.known_plugins = (PLUGIN,)
    seen.inspected = [{"Name": "attention", "LayerType": "PluginV2"}]
    report = export_engine(sampling, tmp_path / "net.engine")
    layers = [seen.network.get_layer(i) for i in range(seen.network.num_layers)]
    assert [n.name for n in layers if n.type.name == "PLUGIN_V2"] == ["attention"]
    assert report.layers
    assert report.layers.plugins == 1
    assert report.notes == ()
    assert "1 plugin" in report.describe()


def test_a_plugin_that_an_engine_does_not_list_is_a_note(tensorrt, sampling, tmp_path):
    tensorrt().known_plugins = (PLUGIN,)
    report = export_engine(sampling, tmp_path / "net.engine")
    assert report.notes == (
        "the engine lists 0 of its 1 plugins; compare it on real frames: edgedetr device check",
    )


def test_a_library_without_the_plugin_builds_nothing(tensorrt, sampling, tmp_path):
    """Its parser takes the function instead, and the engine would be no faster than others."""
    tensorrt()
    with pytest.raises(ArtifactError, match=r"==10\.3\.0 has no plugin Multi.*1 of 1.* gather,"):
        export_engine(sampling, tmp_path / "net.engine")
    assert not (tmp_path / "net.engine").exists()


def test_a_plugin_runs_with_no_later_version(tensorrt, sampling, tmp_path):
    tensorrt().known_plugins = (PLUGIN,)
    options = EngineOptions(version_compatible=True)
    with pytest.raises(UsageError, match=r"nodes of the plugin Multi.*; leave out --version-comp"):
        export_engine(sampling, tmp_path / "net.engine", options)


def test_a_library_for_rtx_has_no_plugins(sampling, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(ArtifactError, match=r"tensorrt_rtx==.* has no plugin Multi.* gather,"):
        export_engine(sampling, tmp_path / "net.engine", backend="tensorrt_rtx")
