"""A detector of a package works only where everything that the package says of itself holds."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from edgedetr.runtime import Detector, Frame, ModelSpec
from edgedetr.runtime.backends import auto
from edgedetr.runtime.backends.onnxruntime import open_session
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.inference.opening import open_model
from edgedetr.runtime.manifest import manifest_path, write_manifest
from edgedetr.runtime.package.reader import ppm_header
from edgedetr.runtime.self_test import Golden, GoldenAnswer, best_detections, golden_inputs

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
IMAGE = np.full((20, 40, 3), 255, np.uint8)
WHITE = Frame(IMAGE)
MODEL = {"name": "models/m.onnx", "kind": "onnx", "precision": "fp32", "companions": []}


@pytest.fixture
def write(tiny_onnx, package_files, write_folder, tmp_path):
    """Writes the folder of a package whose model is the tiny one, with its true golden answer."""

    def write(*, change=lambda golden: golden, models=(MODEL,), more=None, **options):
        path = tiny_onnx().rename(tmp_path / "m.onnx")
        write_manifest(path, kind="onnx", command="", spec=SPEC)
        found = best_detections(open_session(path), IMAGE, 1)
        answer = GoldenAnswer(
            "models/m.onnx",
            tuple(tuple(map(float, box)) for box in found.boxes),  # type: ignore[misc]
            tuple(map(float, found.scores)),
            tuple(map(int, found.labels)),
            box_error_px=0.5,
            score_error=0.01,
        )
        golden = change(Golden(golden_inputs(SPEC), IMAGE.shape[:2], (answer,)))
        changes = {
            "models/m.onnx": path.read_bytes(),
            "models/m.onnx.manifest.json": manifest_path(path).read_bytes(),
            "golden.json": json.dumps(asdict(golden)).encode(),
            "golden.ppm": ppm_header(IMAGE.shape[:2]) + IMAGE.tobytes(),
        } | {m["name"]: b"an engine" for m in models if m["kind"] == "engine"}
        changes |= more or {}
        files = package_files(changes=changes, models=list(models), **options)
        return write_folder(files, tmp_path / "package")

    return write


def test_a_signed_package_is_detected_with(write, keys, tar_bytes, tmp_path):
    folder = write()
    with Detector.open(folder, public_key=keys[1]) as detector:
        assert len(detector.detect(WHITE)) == 1
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*") if p.is_file())
    names = sorted({*names, "licenses/LICENSE"})
    tar = tmp_path / "package.tar"
    tar.write_bytes(tar_bytes([(n, (folder / n).read_bytes()) for n in names]))
    with Detector.open(tar, public_key=keys[1], model="models/m.onnx") as detector:
        assert len(detector.detect(WHITE)) == 1


def test_a_package_needs_a_signature_unless_told_otherwise(write, keys, other_keys):
    with pytest.raises(UsageError, match="name the public key of the maker"):
        Detector.open(write())
    with pytest.raises(ArtifactError):
        Detector.open(write(), public_key=other_keys[1])
    unsigned = write(key=None)
    (unsigned / "MANIFEST.sig").unlink()
    with pytest.raises(ArtifactError):
        Detector.open(unsigned, public_key=keys[1])
    Detector.open(unsigned, require_signature=False).close()


def other_score(golden):
    return replace(golden, answers=(replace(golden.answers[0], scores=(0.5,)),))


def other_place(golden):
    return replace(golden, answers=(replace(golden.answers[0], boxes=((0.0, 0, 5, 5),)),))


def other_input(golden):
    values = tuple(v + 2 / 255 for v in golden.inputs[0].values)
    wrong = replace(golden.inputs[0], sha256="", values=values)
    return replace(golden, inputs=(wrong, *golden.inputs[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_score, "golden detection"),
        (other_place, "golden detection"),
        (other_input, "grey levels, allowed 1"),
    ],
)
def test_a_failed_self_test_refuses_and_a_swap_rolls_back(write, keys, tiny_onnx, change, message):
    folder = write(change=change)
    with pytest.raises(GateError, match=message):
        Detector.open(folder, public_key=keys[1])
    with Detector.open(tiny_onnx()) as detector:
        with pytest.raises(GateError, match=message):
            detector.swap(folder, public_key=keys[1])
        assert len(detector.detect(WHITE)) == 1


def test_a_package_is_swapped_in(write, keys, tiny_onnx):
    with Detector.open(tiny_onnx(bias=((-40.0, -9.0), (-9.0, -9.0)))) as detector:
        assert len(detector.detect(WHITE)) == 0
        detector.swap(write(), public_key=keys[1])
        assert len(detector.detect(WHITE)) == 1


def test_the_first_model_that_the_backend_runs_is_opened(write, keys):
    engine = MODEL | {"name": "models/m.engine", "kind": "engine"}
    folder = write(models=(engine, MODEL))
    session = open_model(folder, "onnxruntime", public_key=keys[1])
    session.close()
    with pytest.raises(ArtifactError, match=r"m\.engine: onnxruntime runs \.onnx files"):
        open_model(folder, "onnxruntime", model="models/m.engine", public_key=keys[1])
    with pytest.raises(ArtifactError, match="holds no model x"):
        open_model(folder, "onnxruntime", model="x", public_key=keys[1])


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        ("models/m.onnx", {"backend": "auto"}),
        ("models/m.int8.onnx", {}),
        ("models/m.int8.onnx", {"backend": "auto", "model": "models/m.int8.onnx"}),
    ],
)
def test_auto_opens_a_float_model_where_int8_is_no_faster(
    write, keys, tiny_onnx, monkeypatch, chosen, options
):
    times = {"onnxruntime": 1, "openvino": 9, "models/m.int8.onnx": 9, "models/m.onnx": 8}
    monkeypatch.setattr(auto, "measure", lambda sessions: {n: times[n] for n in sessions})
    int8 = MODEL | {"name": "models/m.int8.onnx", "precision": "int8"}

    def same(golden):
        answer = replace(golden.answers[0], model="models/m.int8.onnx")
        return replace(golden, answers=(*golden.answers, answer))

    path = tiny_onnx()
    more = {"models/m.int8.onnx": path.read_bytes()}
    folder = write(models=(int8, MODEL), change=same, more=more)
    with Detector.open(folder, public_key=keys[1], **options) as detector:
        assert detector.backend.partition("; ")[2].endswith(chosen)
        said = "models/m.int8.onnx is not worth it in onnxruntime"
        assert (said in detector.backend) == (chosen == "models/m.onnx")


def test_a_package_that_is_in_use_keeps_out_older_ones(write, keys, tiny_onnx, tmp_path):
    state = tmp_path / "state"
    how = {"public_key": keys[1], "state": state}
    Detector.open(write(counter=5), **how).close()
    Detector.open(write(counter=5), **how).close()
    with pytest.raises(ArtifactError, match="has counter 4, older than 5"):
        Detector.open(write(counter=4), **how)
    with Detector.open(tiny_onnx()) as detector:
        with pytest.raises(ArtifactError, match="has counter 4, older than 5"):
            detector.swap(write(counter=4), **how)
        detector.swap(write(counter=6), **how)
        assert len(detector.detect(WHITE)) == 1
    with pytest.raises(ArtifactError, match="has counter 5, older than 6"):
        Detector.open(write(counter=5), **how)
    Detector.open(write(counter=4), public_key=keys[1]).close()
    with pytest.raises(UsageError, match=r"is not a package; .* the state"):
        Detector.open(tiny_onnx(), state=state)


def test_a_package_that_does_not_work_here_keeps_nothing_out(write, keys, tiny_onnx, tmp_path):
    how = {"public_key": keys[1], "state": tmp_path / "state"}
    with pytest.raises(GateError):
        Detector.open(write(change=other_input, counter=9), **how)
    other = ModelSpec((8, 16), ("Tram", "Pedestrian"))
    with (
        Detector.open(tiny_onnx(spec=other)) as detector,
        pytest.raises(ArtifactError, match="open another detector for other classes"),
    ):
        detector.swap(write(counter=9), **how)
    assert not (tmp_path / "state").exists()


def test_what_only_packages_have_is_refused_elsewhere(write, keys, tiny_onnx):
    with pytest.raises(UsageError, match="is not a package"):
        Detector.open(tiny_onnx(), public_key=keys[1])
    with pytest.raises(UsageError, match="is not a package"):
        Detector.open(tiny_onnx(), model="models/m.onnx")
    with pytest.raises(UsageError, match="a package holds its own spec"):
        Detector.open(write(), spec=SPEC, public_key=keys[1])
