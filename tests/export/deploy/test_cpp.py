import os
import shutil

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.export.deploy.cpp import literal, program, write_program
from edgedetr.graph.metadata import set_metadata
from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.conversions.kitti import to_kitti
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.images import read_image
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ExtraInput, ModelSpec

SPEC = ModelSpec(
    (24, 40),
    ("Car", 'Person "sitting" \\ ä', "Cyclist"),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    max_detections=5,
    extra_inputs=(ExtraInput("size", "width_height"),),
)
SIZES = ((24, 40), (97, 211), (13, 7), (51, 60), (400, 81), (1, 1), (48, 80))
"""Heights and widths of frames: as the input, halved, enlarged, with odd sides, of one pixel."""
LOGITS = ((-1.5, -9.0, 0.25), (0.25, -2.0, -3.0), (1.0, 0.25, -0.5))
BOXES = ((0.5, 0.5, 0.5, 0.5), (0.1, 0.9, 0.4, 0.4), (1.5, 1.5, 0.1, 0.1))


@pytest.fixture
def frames(tmp_path):
    """Images of noise, of different sizes."""
    rng = np.random.default_rng(3)
    paths = []
    for number, hw in enumerate(SIZES):
        paths.append(tmp_path / f"{number:06}.png")
        assert cv2.imwrite(str(paths[-1]), rng.integers(0, 256, (*hw, 3), np.uint8))
    return paths


def python_finds(model, images, threshold=0.0):
    """Return the inputs of the network and the detections, as the vehicle's runtime has them."""
    session = open_session(model, threads=1)
    preprocess = Preprocessor(session.spec)
    inputs, found = [], []
    for path in images:
        place = preprocess(read_image(path), session.images[0])
        inputs.append(session.images[0].copy())
        logits, boxes = session.infer()
        found.append(postprocess(logits[0], boxes[0], place, session.spec, threshold))
    session.close()
    return np.array(inputs), found


def assert_same(theirs, ours):
    """Inputs have the same bits, boxes lie within 1e-4 px, scores within 1e-6."""
    assert theirs[0].tobytes() == ours[0].tobytes()
    assert len(theirs[1]) == len(ours[1])
    assert sum(map(len, ours[1])) > len(ours[1])
    for found, wanted in zip(theirs[1], ours[1], strict=True):
        assert found.labels.tolist() == wanted.labels.tolist()
        np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def plain(compiled):
    return compiled(SPEC, "edgedetr_detect")


@pytest.fixture
def model(tiny_onnx):
    return tiny_onnx(spec=SPEC, bias=LOGITS, boxes=BOXES)


@pytest.mark.slow
def test_compiled_program_finds_what_python_finds(plain, model, pack, frames):
    ours = python_finds(model, frames)
    assert_same(plain.run(*pack(model), frames), ours)
    assert_same(plain.run(*pack(model, "folder"), frames), ours)
    found = plain.run(*pack(model, "p2.tar"), frames, threshold=0.5)[1]
    assert [len(f.labels) for f in found] == [len(f) for f in python_finds(model, frames, 0.5)[1]]


@pytest.mark.slow
def test_compiled_program_writes_kitti_lines(plain, model, pack, frames, tmp_path):
    done = plain.start("edgedetr_detect", *pack(model), frames[0].parent, tmp_path / "found")
    assert done.returncode == 0, done.stderr
    found = python_finds(model, frames, 0.3)[1]
    for path, wanted in zip(frames, found, strict=True):
        text = (tmp_path / "found" / f"{path.stem}.txt").read_text(encoding="utf-8")
        lines, ours = text.splitlines(), to_kitti(wanted, SPEC.class_names).splitlines()
        assert [line.rsplit(" ", 1)[0] for line in lines] == [x.rsplit(" ", 1)[0] for x in ours]
        scores = [float(line.rsplit(" ", 1)[1]) for line in lines]
        np.testing.assert_allclose(scores, wanted.scores, rtol=0, atol=2e-6)
    timed = plain.start("edgedetr_detect", *pack(model, "q.tar"), frames[0].parent, "--time")
    assert timed.stdout.startswith(f"{len(SIZES)} frames: detect ")


@pytest.mark.slow
def test_compiled_program_refuses_one_flipped_byte_anywhere(plain, model, pack, frames):
    tar, public = pack(model)
    whole = tar.read_bytes()
    places = {*range(0, len(whole), 997), len(whole) - 1, whole.find(b"MANIFEST.sig") + 512}
    for place in sorted(places):
        tar.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        done = plain.start("probe", tar, public, 0, os.devnull, frames[0])
        assert done.returncode == 1, place
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    tar.write_bytes(whole[:-1])
    assert plain.start("probe", tar, public, 0, os.devnull, frames[0]).returncode == 1


@pytest.mark.slow
def test_compiled_program_refuses_what_the_reader_of_packages_refuses(
    plain, model, pack, frames, tmp_path, edgedetr
):
    def refusal(package, public):
        done = plain.start("probe", package, public, 0, os.devnull, frames[0])
        assert done.returncode == 1
        return done.stderr

    tar, public = pack(model)
    assert edgedetr("package", "keygen", tmp_path / "other")[0] == 0
    assert "another key signed it" in refusal(tar, tmp_path / "other.pub")
    assert "cannot be read" in refusal(tar, tmp_path / "none.pub")
    assert "not an Ed25519 public key" in refusal(tar, tar)
    assert "is the package signed?" in refusal(pack(model, "unsigned.tar", key=None)[0], public)
    folder = pack(model, "folder")[0]
    (folder / "models/more.onnx").write_bytes(b"")
    assert "was added later" in refusal(folder, public)
    (folder / "models/more.onnx").unlink()
    (folder / "models/link.onnx").symlink_to("tiny.onnx")
    assert "not a regular file" in refusal(folder, public)
    shutil.rmtree(folder / "models")
    assert "is missing" in refusal(folder, public)
    other = model.rename(tmp_path / "other.onnx")
    graph = onnx.load(other)
    set_metadata(graph, ModelSpec((24, 40), ("a", "b", "c")), ())
    onnx.save(graph, other)
    assert "has another spec" in refusal(pack(other, "other.tar")[0], public)


CONVENTIONS = {
    "softmax and corners in pixels": {
        "activation": "softmax_logits",
        "no_object": 1,
        "box_format": "xyxy",
        "box_unit": "pixels",
        "resize": "stretch",
    },
    "fused scores": {
        "activation": "sigmoid",
        "fused": True,
        "logits_name": "all",
        "boxes_name": "all",
    },
    "labels": {"labels_name": "labels", "activation": "sigmoid", "logits_name": "scores"},
}


def convention_model(spec, onnx_model):
    """A model that answers in a convention: its scores move with the input's mean a little."""
    rng = np.random.default_rng(1)
    scores = rng.random((1, 6) if spec.labels_name else (1, 6, spec.columns))
    if spec.activation == "softmax_logits":
        scores = 6 * scores - 3
    scale = np.array([40.0, 24, 40, 24] if spec.box_unit == "pixels" else [1.0] * 4)
    low, size = rng.random((1, 6, 2)) * 0.5, rng.random((1, 6, 2)) * 0.4 + 0.1
    parts = (low, low + size) if spec.box_format == "xyxy" else (low + size / 2, size)
    labels = np.array([[0, 1, 2, 0, 1, 2]])
    scores_name = "scores" if spec.fused else spec.logits_name
    nodes = [
        ("ReduceMean", "pool", [spec.input_name], "mean", {"keepdims": 0}),
        ("Sigmoid", "squash", ["mean"], "share", {}),
        ("Mul", "shrink", ["share", "little"], "move", {}),
        ("Reshape", "spread", ["move", "shape"], "moves", {}),
        ("Mul", "scale", ["base", "moves"], scores_name, {}),
        ("Mul", "place", ["at", "move"], "boxes", {}),
    ]
    outputs = [scores_name, "boxes"]
    if spec.fused:
        nodes.append(("Concat", "join", ["boxes", scores_name], "all", {"axis": 2}))
        outputs = ["all"]
    constants = {
        "little": np.array(0.99),
        "shape": np.array([1] * scores.ndim),
        "base": scores,
        "at": np.concatenate(parts, -1) * scale,
    }
    inputs = {spec.input_name: (1, 3, *spec.input_hw)}
    model = onnx_model(nodes, constants, inputs=inputs, outputs=outputs, spec=spec)
    if spec.labels_name:
        model.graph.initializer.append(numpy_helper.from_array(labels, "which"))
        model.graph.node.append(helper.make_node("Identity", ["which"], ["labels"]))
        kind = helper.make_tensor_value_info("labels", TensorProto.INT64, labels.shape)
        model.graph.output.append(kind)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("keys", CONVENTIONS.values(), ids=CONVENTIONS)
def test_compiled_program_decodes_other_conventions(
    keys, compiled, onnx_model, pack, frames, tmp_path
):
    spec = ModelSpec((24, 40), ("a", "b", "c"), max_detections=12, **keys)
    path = tmp_path / "m.onnx"
    onnx.save(convention_model(spec, onnx_model), path)
    assert_same(compiled(spec).run(*pack(path), frames), python_finds(path, frames))


@pytest.mark.slow
def test_compiled_program_equals_python_on_kitti(shared_data, compiled, make_model, pack, tmp_path):
    from edgedetr.export.transforms.trace import trace

    spec = ModelSpec((96, 320), ("Car", "Pedestrian", "Cyclist"))
    path = tmp_path / "m.onnx"
    trace(make_model(spec=spec), path)
    graph = onnx.load(path)
    set_metadata(graph, spec, ())
    onnx.save(graph, path)
    images = sorted((shared_data / "kitti/training/image_2").glob("*.png"))[:80]
    assert len(images) == 80
    program = compiled(spec)
    assert_same(program.run(*pack(path), images), python_finds(path, images))


def test_program_is_written_whole(tmp_path):
    write_program(SPEC, tmp_path / "made")
    made = {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "made").iterdir()}
    assert made == program(SPEC)
    assert "constexpr int kHeight = 24;" in made["edgedetr.cpp"]
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_spec_that_cannot_be_fed_is_refused_in_one_line(tmp_path):
    with pytest.raises(ArtifactError, match="antialias = true") as refusal:
        write_program(ModelSpec((8, 8), ("a",), antialias=True), tmp_path / "made")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "made").exists()


def test_an_existing_folder_stays_as_it_is(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(UsageError, match="exists"):
        write_program(SPEC, tmp_path / "made")
    assert not list((tmp_path / "made").iterdir())


def test_no_text_of_a_spec_leaves_its_string_literal():
    assert literal('";}\n\\??/é') == r'"\042;}\012\134\077\077/\303\251"'
    hostile = ModelSpec((8, 8), ('");system("x', "*/ }"), input_name='in"put')
    source = program(hostile)["edgedetr.cpp"]
    assert 'system("x' not in source
    assert r"\042);system(\042x" in source


@pytest.mark.slow
def test_compiled_program_refuses_a_model_with_inputs_beside_the_image(
    plain, onnx_model, pack, frames, tmp_path
):
    nodes = [
        ("ReduceMean", "pool", ["images"], "mean", {"keepdims": 0}),
        ("ReduceSum", "sum", ["size"], "area", {"keepdims": 0}),
        ("Mul", "mix", ["mean", "area"], "both", {}),
    ]
    inputs = {"images": (1, 3, *SPEC.input_hw), "size": (1, 2)}
    answers = {"logits": np.array([LOGITS]), "boxes": np.array([BOXES])}
    graph = onnx_model(nodes, answers, inputs=inputs, outputs=["both", *answers], spec=SPEC)
    onnx.save(graph, tmp_path / "m.onnx")
    done = plain.start("probe", *pack(tmp_path / "m.onnx"), 0, os.devnull, frames[0])
    assert done.returncode == 1
    assert "the model has 2 inputs" in done.stderr
