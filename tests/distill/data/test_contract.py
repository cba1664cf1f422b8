"""Every format: what it writes is recognised, read, checked and trained on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from edgedetr.distill.data import data_module, open_dataset, split_images, training_images
from edgedetr.distill.dataset_format import FORMATS, formats_of
from edgedetr.distill.dataset_survey import survey
from edgedetr.distill.labels.frames import EVERY_CLASS, checked
from edgedetr.distill.labels.keeps import fitted
from edgedetr.runtime.errors import DataError, UnknownNameError
from edgedetr.runtime.plugins import names

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame

    Scenes = dict[str, list[CheckedFrame]]

KINDS = names(FORMATS)
FILES = [kind for kind in KINDS if kind != "shards"]
"""Those whose pictures are files."""
CLASSES = {"waymo": ("Vehicle", "Pedestrian"), "citypersons": ("pedestrian", "rider")}
"""The classes of formats that have their own and not car and person."""


def written(kind: str, root: Path, scenes: Scenes) -> tuple[Scenes, tuple[str, str]]:
    """Write the scenes, as the format can hold them; return them and the names of their classes."""
    module = data_module(kind, root)
    car, person = CLASSES.get(kind, ("car", "person"))
    called = {"car": car, "person": person, EVERY_CLASS: EVERY_CLASS}
    named = {
        split: [f._replace(objects=[o._replace(name=called[o.name]) for o in f.objects]) for f in s]
        for split, s in scenes.items()
    }
    keeps = module.KEEPS
    losses: Counter[str] = Counter()
    kept = {
        split: [fitted(frame, keeps, (car, person), losses) for frame in frames]
        for split, frames in named.items()
    }
    module.write(root, kept, keeps.classes or (car, person))
    return kept, (car, person)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str, tmp_path: Path, scenes: Scenes) -> None:
    root = tmp_path / "set"
    kept, _ = written(kind, root, scenes)
    module = data_module(None, root)
    assert formats_of(root) == [kind]
    assert module.splits(root) == ("train", "val")
    for split, frames in kept.items():
        labels = module.read(root, split)
        assert labels.problems == []
        found = [frame for frame in checked(labels) if not isinstance(frame, list)]
        assert [f.name.removesuffix("_0_1") for f in found] == [f.name for f in frames]
        for one, other in zip(found, frames, strict=True):
            assert one.hw == other.hw
            nowhere = (0.0, 0.0, 0.0, 0.0)
            assert [o._replace(box=nowhere) for o in one.objects] == [
                o._replace(box=nowhere) for o in other.objects
            ]
            for a, b in zip(one.objects, other.objects, strict=True):
                assert a.box == pytest.approx(b.box, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_trained_on(kind: str, tmp_path: Path, scenes: Scenes) -> None:
    root = tmp_path / "set"
    _, (car, person) = written(kind, root, scenes)
    train = open_dataset(kind, root, "train", (person, car))
    assert [truth.labels.tolist() for truth in train.truths] == [[1, 0], []]
    assert train.truths[0].boxes[0].tolist() == pytest.approx([10, 20.5, 40, 65.25], abs=1e-4)
    assert train[1].frame.image.shape == (80, 100, 3)
    has_areas = bool(data_module(kind, root).KEEPS.ignored)
    assert [len(truth.ignored) for truth in train.truths] == [has_areas, 0]
    every = open_dataset("auto", root, "all", (car,))
    assert len(every) == 3
    assert sum(len(truth.labels) for truth in every.truths) == 2


@pytest.mark.parametrize("kind", FILES)
def test_its_images_are_listed(kind: str, tmp_path: Path, scenes: Scenes) -> None:
    root = tmp_path / "set"
    written(kind, root, scenes)
    assert [path.stem[0] for path in split_images(root, "val", kind)] == ["c"]
    assert training_images(root) == split_images(root, "train")


@pytest.mark.parametrize("kind", FILES)
def test_a_check_counts_good_frames_and_names_the_image_that_is_none(
    kind: str, tmp_path: Path, scenes: Scenes
) -> None:
    root = tmp_path / "set"
    _, (car, person) = written(kind, root, scenes)
    found = survey(root)
    assert found.problems == []
    assert (found.frames, found.empty, dict(found.classes)) == (3, 1, {car: 2, person: 1})
    image = split_images(root, "train", kind)[1]
    image.unlink()
    image.write_bytes(b"no image")
    found = survey(root, kind)
    assert found.frames == 2
    assert [str(image) in problem for problem in found.problems] == [True]
    with pytest.raises(DataError, match=image.name):
        open_dataset(kind, root, "train", (car,))


@pytest.mark.parametrize("kind", KINDS)
def test_another_format_is_named(kind: str, tmp_path: Path, scenes: Scenes) -> None:
    root = tmp_path / "set"
    written(kind, root, scenes)
    other = "coco" if kind != "coco" else "yolo"
    message = f"looks like {kind}, not {other} .*; choose the format {kind}"
    for call in (lambda: open_dataset(other, root, "train", ("car",)), lambda: survey(root, other)):
        with pytest.raises(DataError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_or_a_missing_folder_is_one_line(kind: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nothing"):
        for split in ("train", "all"):
            with pytest.raises(DataError) as caught:
                open_dataset(kind, root, split, ("car",))
            assert "\n" not in str(caught.value)
            assert str(root) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_that_are_not_there_are_refused(kind: str, tmp_path: Path, scenes: Scenes) -> None:
    root = tmp_path / "set"
    written(kind, root, scenes)
    with pytest.raises(DataError, match="zebra"):
        open_dataset(kind, root, "train", ("zebra",))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "shards"])  # not files
def test_suffixes_in_upper_case_are_those_in_lower_case(
    kind: str, tmp_path: Path, scenes: Scenes
) -> None:
    root = tmp_path / "set"
    _, classes = written(kind, root, scenes)
    before = {split: open_dataset(kind, root, split, classes) for split in ("train", "val", "all")}
    for path in [path for path in root.rglob("*") if path.suffix in {".png", ".txt", ".xml"}]:
        path.rename(path.with_suffix(path.suffix.upper()))
    assert formats_of(root) == [kind]
    assert survey(root).problems == []
    for split, wanted in before.items():
        found = open_dataset("auto", root, split, classes)
        assert found.ids == wanted.ids
        assert [p.suffix for p in split_images(root, split)] == [".PNG"] * len(wanted)
        assert [t.boxes.tolist() for t in found.truths] == [t.boxes.tolist() for t in wanted.truths]
        assert found[0].frame.image.shape == (80, 100, 3)


def test_an_unknown_format_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no 'yol' in data; did you mean 'yolo'"):
        open_dataset("yol", tmp_path, "train", ("car",))
