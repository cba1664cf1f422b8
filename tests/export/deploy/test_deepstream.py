import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedetr.export.deploy.deepstream import CONFIG, FILES, PARSER, texts, write_pipeline
from edgedetr.export.deploy.servable import Servable, Tensor
from edgedetr.runtime.decode import decode
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.postprocess import postprocess
from edgedetr.runtime.preprocess import Preprocessor
from edgedetr.runtime.spec import ModelSpec

HERE = Path(__file__).parent
ENGINE = "models/m.engine"
SPEC = ModelSpec((24, 40), ("Car", "Van", "Cyclist"), mean=(0.5, 0.25, 0), std=(0.5, 0.5, 0.5))
QUERIES = 40


def servable(spec, precision="fp32"):
    inputs = (Tensor(spec.input_name, "FLOAT", (1, 3, *spec.input_hw)),)
    outputs = tuple(Tensor(n, "FLOAT", (1, QUERIES, 4)) for n in spec.output_names)
    return Servable(Path("m.onnx"), (), False, precision, spec, inputs, outputs, "")


def properties(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser["property"], parser["class-attrs-all"]


def test_the_configuration_says_what_the_spec_says():
    found, classes = properties(texts(servable(SPEC, "fp16"))[CONFIG])
    scale = float(found["net-scale-factor"])
    offsets = np.array([float(x) for x in found["offsets"].split(";")])
    pixel = np.array([255.0, 0.0, 51.0])
    np.testing.assert_allclose(scale * (pixel - offsets), [1.0, -0.5, 0.4], rtol=0, atol=1e-12)
    assert found["infer-dims"] == "3;24;40"
    assert (found["maintain-aspect-ratio"], found["symmetric-padding"]) == ("1", "0")
    assert (found["network-mode"], found["model-color-format"]) == ("2", "0")
    assert found["num-detected-classes"] == "3"
    assert found["output-blob-names"] == "logits;boxes"
    assert found["cluster-mode"] == "4"
    assert found["onnx-file"] == "model.onnx"
    assert float(classes["pre-cluster-threshold"]) == 0.3
    stretched = ModelSpec((24, 40), ("Car",), resize="stretch")
    found, _ = properties(texts(servable(stretched, "int8"))[CONFIG])
    assert (found["maintain-aspect-ratio"], found["network-mode"]) == ("0", "1")


def test_the_folder_names_what_it_holds(packaged, tmp_path):
    write_pipeline(packaged(), tmp_path / "made")
    folder = tmp_path / "made"
    assert {p.name for p in folder.iterdir()} == {*FILES, "model.onnx"}
    found, _ = properties((folder / CONFIG).read_text(encoding="utf-8"))
    assert f"{found['custom-lib-path']}: {PARSER}" in (folder / "Makefile").read_text("utf-8")
    assert f'extern "C" bool {found["parse-bbox-func-name"]}(' in (folder / PARSER).read_text()
    assert (folder / found["labelfile-path"]).read_text(encoding="utf-8") == "Car\nPedestrian\n"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "not run" in readme
    assert "trained with 114" in readme


def test_a_batch_of_several_cameras(packaged, tmp_path):
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"), std=(1.0,) * 3)
    write_pipeline(packaged(spec, batch=2), tmp_path / "made")
    text = (tmp_path / "made" / CONFIG).read_text(encoding="utf-8")
    assert "\nbatch-size=2\n" in text
    assert "model.onnx_b2_gpu0.engine" in text


def test_an_engine_is_named_as_one(packaged, tmp_path):
    write_pipeline(packaged(engine="tensorrt==10.3.0"), tmp_path / "made", ENGINE)
    found, _ = properties((tmp_path / "made" / CONFIG).read_text(encoding="utf-8"))
    assert "onnx-file" not in found
    assert (tmp_path / "made" / found["model-engine-file"]).read_bytes() == b"engine"
    assert "only on sm_87 (tensorrt==10.3.0)" in (tmp_path / "made/README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": (0.2, 0.2, 0.3)}, "nvinfer has one scale for all channels"),
        ({"antialias": True}, "antialias = true, which nvinfer cannot do"),
        ({"logits_name": "a;b"}, "cannot name the tensor 'a;b'"),
    ],
)
def test_a_model_that_nvinfer_cannot_feed(change, message, packaged, tmp_path):
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"), **change)
    with pytest.raises(ArtifactError, match=message) as caught:
        write_pipeline(packaged(spec), tmp_path / "made")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


CONVENTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softmax and corners in pixels": {
        "activation": "softmax_logits",
        "no_object": 1,
        "box_format": "xyxy",
        "box_unit": "pixels",
    },
    "fused scores": {
        "activation": "sigmoid",
        "fused": True,
        "logits_name": "all",
        "boxes_name": "all",
    },
}


def outputs_of(spec):
    """Random outputs in a convention, some boxes beyond the image and some pairs of equal score."""
    rng = np.random.default_rng(5)
    scores = rng.random((QUERIES, spec.columns)).round(2)
    if spec.activation != "sigmoid":
        scores = 8 * scores - 4
    centre, size = rng.random((QUERIES, 2)) * 1.4 - 0.2, rng.random((QUERIES, 2)) * 0.5 - 0.02
    low_high = np.concatenate([centre - size / 2, centre + size / 2], -1)
    boxes = low_high if spec.box_format == "xyxy" else np.concatenate([centre, size], -1)
    if spec.box_unit == "pixels":
        boxes = boxes * np.array([40, 24, 40, 24])
    parts = [np.concatenate([boxes, scores], -1)] if spec.fused else [scores, boxes]
    return [part.astype(np.float32) for part in parts]


@pytest.fixture(scope="module", params=CONVENTIONS)
def parser(request, tmp_path_factory):
    """The compiled parser of a convention, and its spec."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the parser with")
    spec = ModelSpec((24, 40), ("Car", "Van", "Cyclist"), max_detections=60,
                     **CONVENTIONS[request.param])  # fmt: skip
    folder = tmp_path_factory.mktemp("parser")
    (folder / PARSER).write_text(texts(servable(spec))[PARSER], encoding="utf-8")
    command = ["g++", "-std=c++14", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    sources = [folder / PARSER, HERE / "deepstream/probe.cpp"]
    subprocess.run(
        [*command, "-I", HERE / "deepstream", *sources, "-o", folder / "probe"], check=True
    )
    return folder / "probe", spec


def parse(parser, outputs, threshold, folder, width=40):
    program, spec = parser
    (folder / "outputs").write_bytes(b"".join(o.tobytes() for o in outputs))
    layers = [(n, *o.shape) for n, o in zip(spec.output_names, outputs, strict=True)]
    arguments = [
        folder / "outputs",
        width,
        24,
        threshold,
        3,
        *(x for layer in layers for x in layer),
    ]
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_the_parser_finds_what_python_finds(parser, threshold, tmp_path):
    spec, outputs = parser[1], outputs_of(parser[1])
    done = parse(parser, outputs, threshold, tmp_path)
    assert done.returncode == 0, done.stderr
    found = np.array([line.split() for line in done.stdout.splitlines()], float)
    logits, boxes = decode([o[None] for o in outputs], spec)
    place = Preprocessor(spec)(np.zeros((24, 40, 3), np.uint8), np.empty((3, 24, 40), np.float32))
    wanted = postprocess(logits[0], boxes[0], place, spec, threshold)
    assert len(wanted) > 5
    assert found[:, 0].tolist() == wanted.labels.tolist()
    np.testing.assert_allclose(found[:, 1:5], wanted.boxes, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[:, 5], wanted.scores, rtol=0, atol=1e-6)


def test_the_parser_refuses_what_is_not_of_the_spec(parser, tmp_path):
    outputs = outputs_of(parser[1])
    assert parse(parser, outputs, 0.3, tmp_path, width=41).returncode == 1
    assert parse(parser, [o[:, :-1] for o in outputs], 0.3, tmp_path).returncode == 1
    outputs[0][3, 1] = np.nan
    done = parse(parser, outputs, 0.3, tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "edgedetr: outputs are not finite; export the model again\n",
    )


def test_fp8_needs_an_engine():
    """nvinfer has no mode for it, where it builds an engine itself."""
    with pytest.raises(ArtifactError, match="nvinfer builds no engine of FP8"):
        texts(servable(SPEC, "fp8"))
