"""YOLO text: one file of ``class cx cy w h`` a line for each image, in shares of the image.

The folders of a split, its classes and its name are those of ``data.yaml``, as Ultralytics reads
it; without that file ``images/<split>`` or ``<split>/images`` is looked for, and the classes are
those of ``classes.txt`` or their numbers. The labels of an image lie where its path has ``labels``
in place of the last ``images``, and beside it where it has none; an image without them has no
objects. A line of more than five numbers is a polygon, of which the outer box is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import surveyor
from edgedetr.distill.labels.coco_entries import is_name, short
from edgedetr.distill.labels.frames import (
    LabelledFrame,
    LabelledObject,
    LabelSet,
    frame_stems,
    lost_images,
    with_bar,
)
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.label_files import is_hidden, read_label_text
from edgedetr.distill.labels.writing import image_name, place_image, require_own_names
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import in_any_case, write_text
from edgedetr.runtime.images import list_images
from edgedetr.runtime.images.headers import image_header
from edgedetr.runtime.printable import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedetr.distill.labels.frames import CheckedFrame
    from edgedetr.runtime.images.headers import ImageHeader

LAYOUT = "data.yaml, or images/train and labels/train"
KEEPS = Keeps(beyond_edge=False)
BEYOND = "the shapes of polygons"
SPLITS = {"train": ("train",), "val": ("val", "valid")}
_MOST_SHARE = 1 + 1e-3
"""Rounding may put the edge of a box a little beyond the image."""


def is_here(root: Path) -> bool:
    """Tell whether a folder has a ``data.yaml`` with images, or labels beside its images."""
    if _yaml_path(root) is not None:
        return True
    folders = [root / "labels", *(root / n / "labels" for names in SPLITS.values() for n in names)]
    return any(
        next(folder.glob("**/*.[tT][xX][tT]"), None) for folder in folders if folder.is_dir()
    )


def splits(root: Path) -> tuple[str, ...]:
    """List the splits that ``data.yaml`` or the folders have."""
    settings = _settings(root)
    return tuple(split for split in SPLITS if _places(root, settings, split))


def images(root: Path, split: str) -> list[Path]:
    """List a split's images."""
    return _images(root, _settings(root), split)


def read(root: Path, split: str) -> LabelSet:
    """Read a split's labels.

    Raises:
        DataError: If ``data.yaml`` is damaged, or the split or its images are missing.
    """
    settings = _settings(root)
    names = _class_names(root, settings)
    found = LabelSet(root, names or (), is_closed=names is not None)
    paths = _images(root, settings, split)
    without = 0
    for path, stem in with_bar(zip(paths, frame_stems(paths), strict=True), len(paths)):
        place = _label_path(path)
        text = ""
        if place.is_file():
            try:
                text = read_label_text(place)
            except DataError as error:
                found.problems.append(str(error))
        else:
            without += 1
        header = _header(path) if text.strip() else None
        objects = _objects(text, place, header.hw, names, found.problems) if header else []
        found.frames.append(LabelledFrame(path, str(place), None, objects, stem, header))
    if without == len(paths):
        raise DataError(f"{root}: no image of {split} has labels; wanted {_label_path(paths[0])}")
    if without:
        have_no = counted(without, "image")
        found.notes.append(f"{root}: {have_no} without a label file, taken as without objects")
    if split == "all":
        found.notes += lost_images(root, (Path(frame.labels) for frame in found.frames))
    if names is None:
        used = {int(o.name) for f in found.frames for o in f.objects}
        found.class_names = tuple(str(i) for i in range(max(used, default=-1) + 1))
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path, splits: Mapping[str, list[CheckedFrame]], class_names: tuple[str, ...]
) -> None:
    """Write frames into a new folder, with ``data.yaml``.

    Raises:
        DataError: If two frames of a split have the same name.
    """
    index = {name: i for i, name in enumerate(class_names)}
    for split, frames in splits.items():
        require_own_names(frames)
        for frame in frames:
            place_image(frame.path, out / "images" / split / image_name(frame))
            lines = "".join(_line(o, index, frame.hw) for o in frame.objects)
            write_text(out / "labels" / split / f"{frame.name}.txt", lines)
    settings = {
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(class_names)),
    }
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_text(out / "data.yaml", text)


def _line(obj: LabelledObject, index: Mapping[str, int], hw: tuple[int, int]) -> str:
    height, width = hw
    x0, y0, x1, y1 = obj.box
    shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return f"{index[obj.name]} {' '.join(f'{share:.9f}' for share in shares)}\n"


def _header(image: Path) -> ImageHeader | None:
    """Read an image's header; None where it has none, which the check of the frames says."""
    try:
        return image_header(image)
    except DataError:
        return None


def _objects(
    text: str,
    place: Path,
    hw: tuple[int, int],
    names: tuple[str, ...] | None,
    problems: list[str],
) -> list[LabelledObject]:
    height, width = hw
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            name, (x0, y0, x1, y1) = _parsed(words, names)
        except ValueError as error:
            problems.append(f"{place}:{number}: {error}")
            continue
        found.append(LabelledObject(name, (x0 * width, y0 * height, x1 * width, y1 * height)))
    return found


def _parsed(
    words: list[str], names: tuple[str, ...] | None
) -> tuple[str, tuple[float, float, float, float]]:
    """Return the class and the box of a line, in shares of the image."""
    if len(words) < 5 or (len(words) > 5 and len(words) % 2 == 0):
        raise ValueError(f"found {counted(len(words), 'column')}, wanted class cx cy w h")
    if not words[0].isdecimal() or len(words[0]) > 6:
        raise ValueError(f"class {short(words[0])}, wanted the number of one")
    label = int(words[0])
    if names is not None and label >= len(names):
        raise ValueError(f"class {label}, but there are {len(names)} names")
    values = [_share(word) for word in words[1:]]
    name = str(label) if names is None else names[label]
    if len(values) > 4:
        xs, ys = values[::2], values[1::2]
        return name, (min(xs), min(ys), max(xs), max(ys))
    x, y, width, height = values
    return name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _share(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MOST_SHARE:  # also NaN
        raise ValueError(f"found {short(word)}, wanted a share of the image in [0, 1]")
    return value


def _label_path(image: Path) -> Path:
    """Return where an image's labels lie: ``labels`` in place of the last ``images``."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return in_any_case(Path(*parts).with_suffix(".txt"))


def _yaml_path(root: Path) -> Path | None:
    names = ("data.yaml", "data.yml", "dataset.yaml")
    return next((root / name for name in names if (root / name).is_file()), None)


def _settings(root: Path) -> dict[str, Any]:
    """Read ``data.yaml``; nothing where there is none."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; wanted a YOLO data set")
    path = _yaml_path(root)
    if path is None:
        return {}
    text = read_label_text(path)
    try:
        events = list(yaml.parse(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable YAML file: {where}") from error
    if any(isinstance(event, yaml.AliasEvent) for event in events):
        raise DataError(
            f"{path}: has aliases (*name), which may stand for endless lists; write it out"
        )
    if not isinstance(content, dict) or "names" not in content:
        raise DataError(f"{path}: no names of classes; wanted train, val and names")
    return content


def _class_names(root: Path, settings: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes; None where nothing names them."""
    if not settings:
        path = next((p for p in _name_files(root) if p.is_file()), None)
        if path is None:
            return None
        return tuple(line.strip() for line in read_label_text(path).splitlines() if line.strip())
    names = settings["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{root}: names has the numbers {short([*names])}, wanted 0, 1, ...")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not all(is_name(name) for name in names):
        raise DataError(f"{root}: names {short(names)}, wanted a list of class names")
    if len(set(names)) < len(names):
        raise DataError(f"{root}: names has a class twice: {short(names)}")
    count = settings.get("nc", len(names))
    if count != len(names):
        raise DataError(f"{root}: nc is {short(count)}, but there are {len(names)} names")
    return tuple(names)


def _name_files(root: Path) -> tuple[Path, ...]:
    names = ("classes.txt", "obj.names")
    return tuple(folder / name for folder in (root, root / "labels") for name in names)


def _images(root: Path, settings: dict[str, Any], split: str) -> list[Path]:
    wanted = tuple(SPLITS) if split == "all" else (split,)
    places = [place for name in wanted for place in _places(root, settings, name)]
    if not places and split == "all" and (root / "images").is_dir():
        places = [root / "images"]
    if not places:
        raise DataError(
            f"{root}: no images of the split {split!r}; wanted {split} in data.yaml, "
            f"images/{split} or {split}/images"
        )
    found = [image for place in places for image in _listed(place, root)]
    return list(dict.fromkeys(found))


def _places(root: Path, settings: dict[str, Any], split: str) -> list[Path]:
    """Return the folders and lists of images of a split."""
    names = SPLITS.get(split, (split,))
    given = next((settings[name] for name in names if settings.get(name)), None)
    if given is None:
        places = [root / "images" / name for name in names] + [root / n / "images" for n in names]
        return [place for place in places if place.is_dir()][:1]
    rows = given if isinstance(given, list) else [given]
    if not all(isinstance(row, str) for row in rows):
        raise DataError(f"{root}: {split} is {short(given)}, wanted a folder or a list of images")
    base = root / str(settings.get("path") or "")
    return [_resolved(base, root, row) for row in rows]


def _resolved(base: Path, root: Path, row: str) -> Path:
    """Find a folder of ``data.yaml``; its ``path`` is often that of another machine."""
    inside = row.removeprefix("../")
    choices = (base / row, root / row, root / inside, root / "images" / Path(row).name)
    return next((path for path in choices if path.exists()), base / row)


def _listed(place: Path, root: Path) -> Sequence[Path]:
    """List the images of a folder and those below it, or those that a text file names."""
    if place.suffix.lower() == ".txt":
        lines = [line.strip() for line in read_label_text(place).splitlines()]
        paths = [Path(line) for line in lines if line]
        return [
            in_any_case(path if path.is_absolute() else base / path)
            for path in paths
            for base in [root if str(path)[:2] != "./" else place.parent]
        ]
    if not place.is_dir():
        raise DataError(f"{place}: no such folder of images; see data.yaml")
    inner = sorted(p for p in place.rglob("*") if p.is_dir() and not is_hidden(p))
    folders = [place, *inner]
    return [path for folder in folders if _has_image(folder) for path in list_images(folder)]


def _has_image(folder: Path) -> bool:
    return any(p.suffix.lower() in {".png", ".jpg", ".jpeg"} for p in folder.iterdir())
