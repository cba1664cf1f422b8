from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgedetr.distill.data import data_module
from edgedetr.distill.dataset_conversion import convert
from edgedetr.distill.dataset_format import FORMATS
from edgedetr.distill.labels.frames import LabelledObject, checked
from edgedetr.distill.labels.keeps import fitted
from edgedetr.runtime.errors import DataError, UnknownNameError, UsageError
from edgedetr.runtime.plugins import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANY = [kind for kind in names(FORMATS) if kind not in {"waymo", "citypersons", "cityscapes"}]
"""The formats of any class."""


def boxes(root: Path, split: str) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Return the objects of each frame, areas to ignore left out."""
    labels = data_module(None, root).read(root, split)
    frames = [frame for frame in checked(labels) if not isinstance(frame, list)]
    return {f.name: [(o.name, o.box) for o in f.objects if not o.is_ignored] for f in frames}


@pytest.mark.parametrize("kind", ANY)
def test_there_and_back_nothing_moves(kitti: Path, tmp_path: Path, kind: str) -> None:
    found = convert(kitti, tmp_path / "there", kind)
    assert (found.frames, found.objects) == ({"train": 4, "val": 2}, 5)
    convert(tmp_path / "there", tmp_path / "back", "kitti")
    for split in ("train", "val"):
        assert boxes(tmp_path / "back", split) == boxes(kitti, split)
    assert not list(tmp_path.glob(".*"))  # nothing unfinished is left


def test_losses_are_counted_and_said(kitti: Path, tmp_path: Path) -> None:
    label = kitti / "training" / "label_2" / "000000.txt"
    area = "DontCare -1 -1 -10 1 2 9 9 -1 -1 -1 -1000 -1000 -1000 -10\n"
    label.write_text(label.read_text(encoding="utf-8") + area, encoding="utf-8")
    lines = convert(kitti, tmp_path / "yolo", "yolo").lines()
    assert "1 areas to ignore are dropped and become background" in lines
    assert any(line.startswith("not read, and so not written: 3-D boxes") for line in lines)
    convert(kitti, tmp_path / "coco", "coco")
    crowds = json.loads((tmp_path / "coco" / "train.json").read_text(encoding="utf-8"))
    assert [a["bbox"] for a in crowds["annotations"] if a["iscrowd"]] == [[1, 2, 8, 7]]


def test_frames_of_two_splits_with_one_name_are_told_apart(kitti: Path, tmp_path: Path) -> None:
    convert(kitti, tmp_path / "bdd", "bdd100k")
    for old in (tmp_path / "bdd").rglob("*"):
        if old.stem == "000003":
            old.rename(old.with_stem("000000"))
    path = tmp_path / "bdd" / "labels" / "det_20" / "det_val.json"
    path.write_text(path.read_text(encoding="utf-8").replace("000003", "000000"), encoding="utf-8")
    found = convert(tmp_path / "bdd", tmp_path / "out", "kitti")
    assert any("2 frames have a name that another split has" in note for note in found.notes)
    assert "train_000000" in boxes(tmp_path / "out", "train")
    assert "val_000000" in boxes(tmp_path / "out", "val")


def test_wrong_requests_write_nothing(kitti: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownNameError, match="did you mean 'coco'"):
        convert(kitti, out, "cocoo")
    with pytest.raises(DataError, match="none of 5 objects can be written as waymo"):
        convert(kitti, out, "waymo")
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        convert(kitti, kitti, "coco")
    (kitti / "training" / "label_2" / "000001.txt").write_text("Car\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"000001\.txt:1: found 1 column.*see edgedetr data check"):
        convert(kitti, out, "coco")
    assert not out.exists()


SIDES = st.floats(0.01, 60)


@pytest.mark.parametrize("kind", ANY)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(corners=st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), max_size=4))
def test_any_box_survives(
    kind: str,
    corners: list[tuple[float, float, float, float]],
    tmp_path_factory: pytest.TempPathFactory,
    make_kitti: Callable[[Path], Path],
) -> None:
    root = tmp_path_factory.mktemp("any") / "set"
    source = make_kitti(root.with_name("source"))
    module = data_module(kind, root)
    given_boxes = [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    first = next(checked(data_module("kitti", source).read(source, "train")))
    assert not isinstance(first, list)
    objects = [LabelledObject("Car", box) for box in given_boxes]
    frame = first._replace(objects=objects, hw=(64, 96))
    frame = fitted(frame, module.KEEPS, ("Car",), Counter())
    module.write(root, {"train": [frame]}, ("Car",))
    found = module.read(root, "train").frames[0].objects
    assert len(found) == len(frame.objects)
    for a, b in zip(found, frame.objects, strict=True):
        assert all(math.isclose(x, y, abs_tol=2e-4) for x, y in zip(a.box, b.box, strict=True))


def test_real_sets_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    """The boxes of real KITTI frames, through a format of shares and one that counts from 1."""
    source = shared_data / "kitti"
    for kind in ("yolo", "voc"):
        assert convert(source, tmp_path / kind, kind).objects == 338
        convert(tmp_path / kind, tmp_path / f"{kind}_back", "kitti")
        for split in ("train", "val"):
            there, back = boxes(source, split), boxes(tmp_path / f"{kind}_back", split)
            assert there.keys() == back.keys()
            for name, objects in there.items():
                for a, b in zip(objects, back[name], strict=True):
                    assert a[0] == b[0]
                    assert a[1] == pytest.approx(b[1], abs=1e-3)
