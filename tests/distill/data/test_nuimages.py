from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.distill.data import open_dataset
from edgedetr.distill.data.nuimages import write
from edgedetr.distill.dataset_survey import survey
from edgedetr.runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame

    Write = Callable[[Path], Path]

SAMPLE: dict[str, Any] = {
    "token": "s", "filename": "samples/CAM_FRONT/a.jpg", "width": 100, "height": 80,
    "is_key_frame": True,
}  # fmt: skip
SWEEP = {**SAMPLE, "token": "t", "filename": "sweeps/CAM_FRONT/b.jpg", "is_key_frame": False}
OBJECT: dict[str, Any] = {
    "token": "o", "sample_data_token": "s", "category_token": "c", "bbox": [10, 20, 40, 65],
}  # fmt: skip
TABLES: dict[str, list[dict[str, Any]]] = {
    "category": [{"token": "c", "name": "vehicle.car"}, {"token": "d", "name": "animal"}],
    "sample_data": [SAMPLE, SWEEP],
    "object_ann": [OBJECT],
}


def folder(root: Path, write_image: Write, **tables: object) -> Path:
    write_image(root / "samples" / "CAM_FRONT" / "a.jpg")
    (root / "v1.0-train").mkdir()
    for name, rows in {**TABLES, **tables}.items():
        (root / "v1.0-train" / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


def test_tables_are_joined_and_only_key_frames_are_frames(
    tmp_path: Path, write_image: Write
) -> None:
    dataset = open_dataset("auto", folder(tmp_path, write_image), "train", ("vehicle.car",))
    assert dataset.ids == ("a",)
    assert dataset.truths[0].boxes.tolist() == [[10, 20, 40, 65]]
    with pytest.raises(DataError, match=r"no class 'vehicle\.cars'; did you mean"):
        open_dataset("nuimages", tmp_path, "train", ("vehicle.cars",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_token": "x"}, "no category has the token 'x'"),
        ({"sample_data_token": "x"}, "no sample_data has the token 'x'"),
        ({"bbox": [1, 2, 3]}, "wanted x0 y0 x1 y1"),
        ({"bbox": None}, "bbox None, wanted"),
        ({"bbox": [1, 2, 3, "x"]}, "'x', wanted finite numbers"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, write_image: Write, change: dict[str, Any], message: str
) -> None:
    root = folder(tmp_path, write_image, object_ann=[OBJECT, {**OBJECT, **change}])
    (problem,) = survey(root).problems
    assert "object_ann[1]: " in problem
    assert message in problem


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"category": {}}, "not a table of nuImages"),
        ({"sample_data": [{**SAMPLE, "width": "wide"}]}, "row 0: 'wide', wanted a whole number"),
        ({"sample_data": [{"token": "s"}]}, "row 0: no 'is_key_frame'"),
        ({"sample_data": [5]}, "row 0: no JSON object"),
    ],
)
def test_a_damaged_table_is_refused(
    tmp_path: Path, write_image: Write, tables: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset("nuimages", folder(tmp_path, write_image, **tables), "train", ("animal",))


def test_the_devkit_opens_what_is_written(
    tmp_path: Path, scenes: dict[str, list[CheckedFrame]]
) -> None:
    """Held to nuImages' own tool."""
    nuimages = pytest.importorskip("nuimages.nuimages", exc_type=ImportError)
    frames = {
        split: [f._replace(objects=[o for o in f.objects if not o.is_ignored]) for f in some]
        for split, some in scenes.items()
    }
    write(tmp_path / "set", frames, ("car", "person"))
    devkit = nuimages.NuImages("v1.0-train", str(tmp_path / "set"), verbose=False)
    boxes = [row["bbox"] for row in devkit.object_ann]
    assert boxes == [[10, 20.5, 40, 65.25], [0, 0, 100, 80]]
    sample = devkit.get("sample_data", devkit.object_ann[0]["sample_data_token"])
    assert sample["filename"] == "samples/CAM_FRONT/a.png"
