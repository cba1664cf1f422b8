"""What every backend must do, on its library or a fake of it; whatever file there is is tested."""

import threading
from functools import partial

import numpy as np
import pytest

from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.errors import ArtifactError, EdgeDetrError
from edgedetr.runtime.plugins import names
from edgedetr.runtime.spec import ModelSpec

BACKENDS = names("edgedetr.runtime.backends")
SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))
ON_GPUS = {"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1"}


@pytest.fixture(params=BACKENDS)
def opener(request, tiny_onnx):
    """The backend's name, and a function that opens the tiny model; all is closed at the end."""
    name = request.param
    if name in ON_GPUS:
        version = ON_GPUS[name]
        request.getfixturevalue("install_trt")(name, version)
        write = partial(request.getfixturevalue("tiny_engine"), builder=f"{name}=={version}")
    else:
        write = tiny_onnx
        if name.startswith("onnxruntime_"):
            request.getfixturevalue("gpu_providers")
    sessions = []

    def open_one(*arguments, steady=False, **model):
        sessions.append(backend(name).open_session(write(**model), *arguments, steady=steady))
        return sessions[-1]

    yield name, open_one
    for session in sessions:
        session.close()


def first_logit(session, value):
    session.images[...] = value
    return float(session.infer()[0][0, 0, 0])


def test_a_backend_says_what_it_opens(opener):
    name, _ = opener
    assert set(backend(name).SUFFIXES) <= {".onnx", ".engine"}


def test_the_answer_by_hand(opener):
    session = opener[1]()
    assert session.images.shape == (1, 3, 8, 16)
    assert session.images.dtype == np.float32
    session.images[...] = 0.75
    logits, boxes = session.infer()
    np.testing.assert_allclose(logits, [[[2, -9], [-9, -9]]], rtol=1e-6)
    np.testing.assert_allclose(boxes, [[[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]]])


def test_a_steady_session_answers_the_same(opener):
    session, steady = opener[1](), opener[1](steady=True)
    assert first_logit(steady, 0.75) == first_logit(session, 0.75) == 2


def test_buffers_stay_where_they_are(opener):
    session = opener[1]()
    arrays = [session.images, *session.infer()]
    places = [a.ctypes.data for a in arrays]
    for value in (1, 0, 1):
        session.images[...] = value
        again = [session.images, *session.infer()]
        assert [a.ctypes.data for a in again] == places
    assert arrays[1][0, 0, 0] == 4


def test_frames_do_not_mix(opener):
    session = opener[1]()
    wanted = [(-4, 0), (4, 1), (-4, 0), (0, 0.5)]
    assert [first_logit(session, v) for _, v in wanted] == [w for w, _ in wanted]


def test_sessions_do_not_mix(opener):
    one, two = opener[1](), opener[1]()
    one.images[...], two.images[...] = 1, 0
    (first, _), (second, _) = one.infer(), two.infer()
    assert (first[0, 0, 0], second[0, 0, 0]) == (4, -4)
    one.close()
    assert first_logit(two, 1) == 4


def test_another_thread_may_run_and_close_it(opener):
    session = opener[1]()
    found = []
    for work in (lambda: found.append(first_logit(session, 1)), session.close):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [4]


def test_the_spec_comes_from_the_artifact_or_the_caller(opener):
    stored = ModelSpec((8, 16), ("Car", "Pedestrian"), pad_value=3)
    given = ModelSpec((8, 16), ("bus", "tram"))
    assert opener[1](spec=stored).spec == stored
    assert opener[1](given, spec=stored).spec == given


def test_it_says_what_it_runs_on(opener):
    name, open_one = opener
    library = {"auto": ""}.get(name, name.partition("_")[0])
    said = open_one().runs_on
    assert said.startswith(library)
    assert any(c.isdigit() for c in said)


def test_close_twice_is_safe_and_ends_it(opener):
    session = opener[1]()
    session.close()
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.infer()


def test_a_missing_file_is_named(opener, tmp_path):
    name, _ = opener
    for suffix in backend(name).SUFFIXES:
        with pytest.raises(ArtifactError, match=rf"gone\{suffix} is missing"):
            backend(name).open_session(tmp_path / f"gone{suffix}")


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_named(opener, damage, tmp_path, capfd):
    name, open_one = opener
    session = open_one()
    session.close()
    suffix = backend(name).SUFFIXES[0]
    path = tmp_path / f"tiny{suffix}"
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(ArtifactError, match=rf"tiny\{suffix}"):
        backend(name).open_session(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "wrong",
    [
        ModelSpec((9, 16), SPEC.class_names),
        ModelSpec((8, 16), SPEC.class_names, input_name="pixels"),
        ModelSpec((8, 16), SPEC.class_names, logits_name="scores"),
        ModelSpec((8, 16), ("Car", "Pedestrian", "Cyclist")),
        ModelSpec((8, 16), SPEC.class_names, logits_name="boxes", boxes_name="logits"),
    ],
)
def test_a_model_that_is_not_what_the_spec_says_is_refused(opener, wrong):
    with pytest.raises(ArtifactError, match=r"tiny\.(onnx|engine) (takes|outputs) .* its\s+spec"):
        opener[1](wrong, spec=SPEC)


def test_every_error_is_one_that_the_command_line_knows(opener, tmp_path):
    name, _ = opener
    path = tmp_path / f"folder{backend(name).SUFFIXES[0]}"
    path.mkdir()
    with pytest.raises(EdgeDetrError):
        backend(name).open_session(path)
