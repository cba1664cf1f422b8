import json
import pickle

import numpy as np
import pytest
import torch

from edgedetr.distill.training import answer_store
from edgedetr.distill.training.answer_store import HEADER, AnswerStore, key_of
from edgedetr.runtime.errors import ArtifactError

ABOUT = {"format": "1", "teacher": "a" * 64, "augmentation": "flip+zoom"}


def pixels_of(number):
    return torch.full((3, 4, 6), number, dtype=torch.uint8)


def features_of(number):
    """Tokens, a mask, and boxes that FP16 would round."""
    return torch.full((5, 2), number / 3), torch.ones(5, dtype=torch.bool), torch.full((2, 4), 0.1)


def put(store, number, item=""):
    answer = store.answer(pixels_of(number), item, labelled=True)
    return store.add("features", answer, features_of(number))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize(("precision", "kind"), [("fp16", np.float16), ("fp32", np.float32)])
def test_an_answer_is_read_as_it_was_given_back_when_it_was_added(folder, precision, kind):
    with AnswerStore(folder, ABOUT, precision) as store:
        given = put(store, 1)
        assert store.answer(pixels_of(1), "", labelled=True).features is not None  # not written yet
    assert [part.dtype for part in given] == [kind, np.bool_, np.float32]
    found = AnswerStore(folder, ABOUT, precision).answer(pixels_of(1), "", labelled=True).features
    assert found is not None
    for one, two in zip(given, found, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    if precision == "fp32":
        np.testing.assert_array_equal(found[0], features_of(1)[0].numpy())


def test_pixels_are_another_answers_when_one_of_them_or_their_shape_differs():
    one, other = pixels_of(1), pixels_of(1)
    other[2, 3, 5] = 2
    assert len({key_of(one), key_of(other), key_of(one.reshape(3, 6, 4))}) == 3
    assert key_of(one) == key_of(pixels_of(1))


def test_shards_are_written_when_they_are_full_and_a_killed_build_keeps_them(folder, monkeypatch):
    """Two answers of 42 bytes in FP16 and FP32 boxes fill a shard of 100."""
    monkeypatch.setattr(answer_store, "SHARD_BYTES", 100)
    store = AnswerStore(folder, ABOUT, "fp16")
    for number in range(5):
        put(store, number, f"image {number}")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) == 2  # the fifth is lost with the process
    again = AnswerStore(folder, ABOUT, "fp16")
    assert [again.holds("features", f"image {n}") for n in range(5)] == [True] * 4 + [False]
    assert again.bytes_on_disk == sum(path.stat().st_size for path in shards)
    assert not list(folder.glob(".*"))


def test_pictures_of_the_same_pixels_have_an_answer_each_by_name(folder):
    with AnswerStore(folder, ABOUT, "fp16") as store:
        parts = put(store, 1, "one")
        again = store.answer(pixels_of(1), "mirrored", labelled=True)
        assert again.features is not None
        store.keep("features", again, parts)
        assert store.holds("features", "mirrored")
    store = AnswerStore(folder, ABOUT, "fp16")
    assert store.holds("features", "one")
    assert store.holds("features", "mirrored")


def test_what_another_process_writes_is_found(folder):
    reader, writer = (AnswerStore(folder, ABOUT, "fp16") for _ in range(2))
    reader = pickle.loads(pickle.dumps(reader))  # noqa: S301 - as a loader process gets it
    assert reader.answer(pixels_of(7), "", labelled=True).features is None
    with writer:
        put(writer, 7)
    assert reader.answer(pixels_of(7), "", labelled=True).features is not None


def test_detections_are_asked_for_where_there_are_no_labels(folder):
    store = AnswerStore(folder, ABOUT, "fp16")
    answer = store.answer(pixels_of(1), "", labelled=False)
    store.add("detections", answer, (torch.zeros(2, 3), torch.rand(2, 4)))
    assert store.answer(pixels_of(1), "", labelled=True).detections is None
    found = store.answer(pixels_of(1), "", labelled=False)
    assert found.features is None
    assert found.detections is not None


@pytest.mark.parametrize("name", list(ABOUT))
def test_a_cache_of_something_else_is_refused_by_name(folder, name):
    AnswerStore(folder, ABOUT, "fp16")
    with pytest.raises(ArtifactError, match=f"holds answers for another {name}: it was .* is 2;"):
        AnswerStore(folder, ABOUT | {name: "2"}, "fp16")


def test_a_picture_whose_pixels_changed_is_refused(folder):
    with AnswerStore(folder, ABOUT, "fp16") as store:
        put(store, 1, "000012, view 3")
    with pytest.raises(ArtifactError, match="its answer for 000012, view 3 is for other pixels"):
        store.answer(pixels_of(2), "000012, view 3", labelled=True)


def test_features_that_fp16_cannot_hold_are_refused(folder):
    store = AnswerStore(folder, ABOUT, "fp16")
    answer = store.answer(pixels_of(1), "", labelled=True)
    with pytest.raises(ArtifactError, match=r"reach 7e\+04, more than FP16 holds"):
        store.add("features", answer, (torch.full((1, 2), 7e4),))


def test_a_folder_of_something_else_is_left_alone(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"is no teacher cache: .*notes\.txt"):
        AnswerStore(folder, ABOUT, "fp16")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", ["header", "cut", "foreign"])
def test_damage_is_one_line(folder, damage):
    with AnswerStore(folder, ABOUT, "fp16") as store:
        put(store, 1)
    (shard,) = folder.glob("*.safetensors")
    if damage == "header":
        (folder / HEADER).write_text("{", encoding="utf-8")
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-9])
    else:
        safe = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
        shard.write_bytes(len(safe).to_bytes(8, "little") + safe + b"0")
    with pytest.raises(ArtifactError, match="is damaged"):
        AnswerStore(folder, ABOUT, "fp16")


def test_the_header_says_what_the_answers_depend_on(folder):
    AnswerStore(folder, ABOUT, "fp16")
    assert json.loads((folder / HEADER).read_text(encoding="utf-8")) == ABOUT
