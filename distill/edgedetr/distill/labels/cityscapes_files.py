"""Cityscapes' folders: one JSON file of objects for each image, by split and city."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.distill.labels.coco_entries import reason, whole_number
from edgedetr.distill.labels.frames import LabelledFrame, LabelledObject, LabelSet, with_bar
from edgedetr.distill.labels.label_files import read_label_json
from edgedetr.distill.labels.writing import place_image, require_own_names
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import in_any_case, write_text
from edgedetr.runtime.images.reading import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame

IMAGES, IMAGE_ENDING = "leftImg8bit", "_leftImg8bit"
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Kind:
    """One of the annotation packages of Cityscapes.

    Attributes:
        folder: The folder at the top, such as ``gtFine``.
        ending: What the names of its files end with, such as ``_gtFine_polygons``.
    """

    folder: str
    ending: str

    def is_here(self, root: Path) -> bool:
        """Tell whether a folder holds it."""
        return (root / self.folder).is_dir()

    def splits(self, root: Path) -> tuple[str, ...]:
        """List the splits that have labels."""
        return tuple(split for split in SPLITS if (root / self.folder / split).is_dir())

    def label_files(self, root: Path, split: str) -> list[Path]:
        """List a split's label files, by city and name.

        Raises:
            DataError: If there is none.
        """
        wanted = SPLITS if split == "all" else (split,)
        pattern = f"*/[!.]*{self.ending}.json"
        found = [
            path for name in wanted for path in sorted((root / self.folder / name).glob(pattern))
        ]
        if not found:
            raise DataError(
                f"{root}: no labels of the split {split!r}; wanted "
                f"{self.folder}/{split}/CITY/NAME{self.ending}.json"
            )
        return found

    def image_path(self, root: Path, labels: Path) -> Path:
        """Return the image of a label file, whose place is that of the labels."""
        stem = labels.name.removesuffix(f"{self.ending}.json") + IMAGE_ENDING
        folder = root / IMAGES / labels.parent.parent.name / labels.parent.name
        places = [in_any_case(folder / f"{stem}{suffix}") for suffix in SUFFIXES]
        return next((place for place in places if place.is_file()), places[0])

    def read(
        self, root: Path, split: str, parse: Callable[[dict[str, Any]], LabelledObject | None]
    ) -> LabelSet:
        """Read a split's labels.

        Args:
            root: The folder.
            split: ``train``, ``val`` or ``all``.
            parse: Returns an entry's object, None where it is none; raises KeyError, TypeError or
                ValueError.
        """
        found = LabelSet(root)
        paths = self.label_files(root, split)
        for path in with_bar(paths, len(paths)):
            name = path.name.removesuffix(f"{self.ending}.json")
            try:
                content = read_label_json(path)
                hw, entries = _contents(content)
            except DataError as error:
                found.problems.append(str(error))
                continue
            except (KeyError, TypeError, ValueError) as error:
                wanted = "wanted imgHeight, imgWidth and objects"
                found.problems.append(f"{path}: {reason(error)}; {wanted}")
                continue
            objects = _objects(entries, parse, path, found)
            image = self.image_path(root, path)
            found.frames.append(LabelledFrame(image, str(path), hw, objects, name))
        return found

    def write(
        self,
        out: Path,
        splits: Mapping[str, list[CheckedFrame]],
        entries: Callable[[list[LabelledObject]], list[dict[str, object]]],
    ) -> None:
        """Write frames into a new folder, as one city.

        Args:
            out: The folder.
            splits: The frames of each split.
            entries: Makes the entries of an image's objects.

        Raises:
            DataError: If two frames of a split have the same name.
        """
        for split, frames in splits.items():
            require_own_names(frames)
            for frame in frames:
                height, width = frame.hw
                objects = entries(frame.objects)
                text = json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects})
                city = f"{split}/city"
                image = f"{frame.name}{IMAGE_ENDING}{frame.path.suffix.lower()}"
                place_image(frame.path, out / IMAGES / city / image)
                write_text(
                    out / self.folder / city / f"{frame.name}{self.ending}.json", f"{text}\n"
                )


def _contents(content: Any) -> tuple[tuple[int, int], list[Any]]:  # noqa: ANN401
    entries = content["objects"]
    if not isinstance(entries, list):
        raise ValueError("no list of objects")  # noqa: TRY004 - what a file holds is a value
    return (whole_number(content["imgHeight"]), whole_number(content["imgWidth"])), entries


def _objects(
    entries: list[Any],
    parse: Callable[[dict[str, Any]], LabelledObject | None],
    path: Path,
    found: LabelSet,
) -> list[LabelledObject]:
    objects = []
    for index, entry in enumerate(entries):
        try:
            obj = parse(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found.problems.append(f"{path}: objects[{index}]: {reason(error)}")
            continue
        if obj is not None:
            objects.append(obj)
    return objects
