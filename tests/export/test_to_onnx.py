from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from edgedetr.distill.detectors import decodes_queries, detector
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.runtime.files import sha256
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec, spec_from_json

pytestmark = pytest.mark.slow

TEACHER = Path(__file__).parents[2] / "distill" / "checkpoints" / "synth_teacher.safetensors"


def shape(value):
    return [d.dim_value for d in value.type.tensor_type.shape.dim]


def test_the_graph(exported):
    model = onnx.load(exported[0])
    assert {o.domain: o.version for o in model.opset_import} == {"": 17}
    assert {i.name: shape(i) for i in model.graph.input} == {"images": [1, 3, 64, 96]}
    assert {o.name: shape(o) for o in model.graph.output} == {
        "logits": [1, 40, 3],
        "boxes": [1, 40, 4],
    }
    count = Counter(node.op_type for node in model.graph.node)
    assert count["LayerNormalization"] == 9  # encoder 2, query selection 1, two layers of 3
    assert not count.keys() & {"Shape", "ConstantOfShape", "Range", "Identity", "If"}
    indices = {name for n in model.graph.node if n.op_type == "Gather" for name in n.input[1:]}
    casts = [name for n in model.graph.node if n.op_type == "Cast" for name in n.output]
    assert set(casts) <= indices
    assert all(not node.doc_string for node in model.graph.node)
    assert exported[1].nodes == len(model.graph.node) < 1000
    assert exported[1].problem == ""
    assert exported[1].broken == []


def test_the_file_says_what_it_is(exported, checkpoint):
    path, done = exported
    metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert metadata.keys() == {METADATA_KEY, "edgedetr.versions"}
    manifest = read_manifest(path)
    assert spec_from_json(metadata[METADATA_KEY], "") == manifest.spec
    assert manifest.spec.input_hw == (64, 96)
    assert metadata["edgedetr.versions"].split() == list(manifest.versions)
    packages = {line.partition("==")[0] for line in manifest.versions}
    assert packages == {"edgedetr", "torch", "transformers", "onnx", "onnxsim"}
    assert (manifest.kind, manifest.command) == ("onnx", "edgedetr export onnx")
    parent = manifest.parents[0]
    assert (parent.name, parent.sha256) == ("student.safetensors", sha256(checkpoint))
    assert manifest.summary == done.parity.summary()
    assert manifest.summary.startswith("equal to student.safetensors on 4 frames: 80 matched, 0 un")
    assert done.parity.candidate_sha256 == manifest.sha256


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_every_family_becomes_a_graph_of_its_own_weights(family, family_files):
    """What only training needs stays behind, and what is left finds the same."""
    files = family_files(family)
    model, done = files.model, files.exported
    assert (done.problem, done.parity.passed) == ("", True)
    assert done.parity.figures.matched > 30
    assert done.parity.figures.max_box_error_px == pytest.approx(0, abs=0.01)
    graph = onnx.load(files.traced).graph
    constants = [t.name for t in graph.initializer]
    assert all(name.startswith(("network.", "onnx::")) for name in constants)
    assert not [name for name in constants if "denoising" in name]
    own = sum(w.numel() for w in (*model.network.parameters(), *model.network.buffers()))
    stored = sum(np.prod(t.dims, dtype=int) for t in graph.initializer)
    assert own * 0.9 < stored < own
    kinds = {node.op_type for node in graph.node}
    assert ("LayerNormalization" in kinds) == decodes_queries(detector(family))
    assert not kinds & {"NonZero", "NonMaxSuppression", "Loop", "If"}  # every shape is static
    assert "Shape" in kinds  # so that a test of the simplified graph means something


def test_a_model_whose_queries_all_score_alike_is_exported(tmp_path):
    """Before training every feature vanishes, and any rounding chooses other queries."""
    import torch

    from edgedetr.distill.model import new_model

    spec = ModelSpec((64, 96), ("Car", "Pedestrian", "Cyclist"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(tmp_path / "m.safetensors", new_model("d_fine", "edge-tiny", spec), command="")
    done = export_onnx(tmp_path / "m.safetensors", tmp_path / "m.onnx")
    assert done.parity.passed
    assert done.parity.figures.matched >= 80
    assert done.parity.figures.tied_frames > 0
    assert "frames with tied queries" in read_manifest(tmp_path / "m.onnx").summary


def test_a_trained_detector_finds_the_same_in_real_frames(shared_data, tmp_path):
    paths = list_images(shared_data / "kitti" / "training" / "image_2")[::16]
    out = tmp_path / "teacher.onnx"
    assert export_onnx(TEACHER, out, map(read_image, paths)).problem == ""
    report = verify(TEACHER, out, [read_image(path) for path in paths], Rule(), Gate())
    assert report.passed, report.reason
    assert (report.figures.frames, report.figures.unmatched) == (5, 0)
    assert report.figures.matched >= 100  # 20 a frame at least
    assert report.figures.max_box_error_px == pytest.approx(0, abs=0.05)
