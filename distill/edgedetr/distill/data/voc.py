"""Pascal VOC: one XML file of boxes for each image, and lists of names for the splits.

``Annotations/<name>.xml``, ``JPEGImages/<name>.jpg`` and ``ImageSets/Main/<split>.txt``, in the
folder itself or in one ``VOC...`` below it. Corners are pixels counted from 1 that belong to the
box, so that 1 1 W H is the whole image. A difficult object is an area to ignore, as in VOC's own
evaluation. A file that declares a document type or an entity is refused: it may expand endlessly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from edgedetr.distill.data import opener
from edgedetr.distill.dataset_survey import surveyor
from edgedetr.distill.labels.coco_entries import class_name, finite_number, short, whole_number
from edgedetr.distill.labels.frames import (
    OCCLUDED,
    TRUNCATED,
    LabelledFrame,
    LabelledObject,
    LabelSet,
    lost_images,
    with_bar,
)
from edgedetr.distill.labels.keeps import Keeps
from edgedetr.distill.labels.label_files import read_label_text
from edgedetr.distill.labels.writing import decimal, image_name, place_image, require_own_names
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import files_with, in_any_case, write_text
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedetr.distill.labels.frames import CheckedFrame

LAYOUT = "Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/train.txt"
KEEPS = Keeps(ignored="class", truncation="yes", occlusion="yes", one_folder=True)
BEYOND = "poses, parts and segmentations"
SPLITS = ("train", "val")


def is_here(root: Path) -> bool:
    """Tell whether a folder, or one VOC folder in it, has XML annotations."""
    return any(files_with(folder / "Annotations", ".xml") for folder in _folders(root))


def splits(root: Path) -> tuple[str, ...]:
    """List the splits of which there is a list."""
    return tuple(s for s in SPLITS if _listing(_folder(root), s).is_file())


def images(root: Path, split: str) -> list[Path]:
    """List a split's images, in the order of its list."""
    return list(_images(_folder(root), split).values())


def read(root: Path, split: str) -> LabelSet:
    """Read a split's annotations.

    Raises:
        DataError: If the folder, the list or an image is missing.
    """
    folder = _folder(root)
    found = LabelSet(root)
    there = _images(folder, split)
    for name, image in with_bar(there.items(), len(there)):
        path = _annotation_path(folder, name)
        try:
            hw, objects = _annotation(path)
        except (DataError, ValueError) as error:
            text = str(error) if isinstance(error, DataError) else f"{path}: {error}"
            found.problems.append(text)
            continue
        found.frames.append(LabelledFrame(image, str(path), hw, objects, name))
    if split == "all":
        found.notes += lost_images(folder, (_annotation_path(folder, name) for name in there))
    found.class_names = tuple(sorted(found.occurring()))
    return found


open_dataset = opener(read)
survey = surveyor(read)


def write(
    out: Path,
    splits: Mapping[str, list[CheckedFrame]],
    class_names: tuple[str, ...],  # noqa: ARG001 - VOC lists no classes
) -> None:
    """Write frames into a new folder.

    Raises:
        DataError: If two frames have the same name.
    """
    require_own_names(frame for frames in splits.values() for frame in frames)
    for split, frames in splits.items():
        for frame in frames:
            name = image_name(frame)
            place_image(frame.path, out / "JPEGImages" / name)
            write_text(out / "Annotations" / f"{frame.name}.xml", _text(frame, name))
        write_text(_listing(out, split), "".join(f"{frame.name}\n" for frame in frames))


def _text(frame: CheckedFrame, name: str) -> str:
    height, width = frame.hw
    rows = "".join(
        f"  <object>\n    <name>{escape(o.name)}</name>\n"
        f"    <truncated>{int(o.truncation > 0)}</truncated>\n"
        f"    <occluded>{int(o.occlusion > 0)}</occluded>\n"
        f"    <difficult>{int(o.is_ignored)}</difficult>\n"
        f"    <bndbox><xmin>{decimal(o.box[0] + 1)}</xmin><ymin>{decimal(o.box[1] + 1)}</ymin>"
        f"<xmax>{decimal(o.box[2])}</xmax><ymax>{decimal(o.box[3])}</ymax></bndbox>\n"
        "  </object>\n"
        for o in frame.objects
    )
    return (
        f"<annotation>\n  <filename>{escape(name)}</filename>\n  <size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>\n{rows}</annotation>\n"
    )


def _folders(root: Path) -> list[Path]:
    inner = sorted(path for path in root.glob("VOC*") if path.is_dir())
    return [folder for folder in (root, *inner) if (folder / "Annotations").is_dir()]


def _folder(root: Path) -> Path:
    found = _folders(root)
    if not found:
        raise DataError(f"{root}: no Annotations folder; wanted Pascal VOC ({LAYOUT})")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"{root}: {names} may each be meant; give one of these folders")
    return found[0]


def _listing(folder: Path, split: str) -> Path:
    return in_any_case(folder / "ImageSets" / "Main" / f"{split}.txt")


def _annotation_path(folder: Path, name: str) -> Path:
    return in_any_case(folder / "Annotations" / f"{name}.xml")


def _images(folder: Path, split: str) -> dict[str, Path]:
    """Return a split's images by name: those of its list, or all that have annotations."""
    there = {path.stem: path for path in list_images(folder / "JPEGImages")}
    if split == "all":
        labelled = {path.stem for path in files_with(folder / "Annotations", ".xml")}
        return {name: path for name, path in there.items() if name in labelled}
    listing = _listing(folder, split)
    if not listing.is_file():
        raise DataError(f"{listing}: no such list; wanted one image name a line for {split!r}")
    names = [words[0] for line in read_label_text(listing).splitlines() if (words := line.split())]
    missing = next((name for name in names if name not in there), None)
    if missing is not None or not names:
        problem = "is empty" if missing is None else f"names {short(missing)}, which has no image"
        raise DataError(f"{listing}: the list {problem} in JPEGImages")
    return {name: there[name] for name in names}


def _annotation(path: Path) -> tuple[tuple[int, int] | None, list[LabelledObject]]:
    """Read an annotation; raises DataError or ValueError."""
    top = _parsed(read_label_text(path))
    if top.tag != "annotation":
        raise ValueError(f"not a VOC annotation but <{short(top.tag)[1:-1]}>")
    size = top.find("size")
    hw = None
    if size is not None:
        hw = whole_number(size.findtext("height")), whole_number(size.findtext("width"))
    hw = hw if hw and all(hw) else None  # some tools write 0 x 0
    entries, index = top.findall("object"), 0
    objects = []
    try:
        for index, entry in enumerate(entries, 1):  # noqa: B007 - for the message
            objects.append(_object(entry))
    except ValueError as error:
        raise ValueError(f"object {index}: {error}") from error
    return hw, objects


def _parsed(text: str) -> ET.Element:
    """Parse XML without a document type, so that nothing can be expanded or fetched."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares a document type or an entity, which is not read")
    try:
        return ET.fromstring(text)  # noqa: S314 - without declarations there is nothing to expand
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"not readable XML: {error}") from error


def _object(entry: ET.Element) -> LabelledObject:
    box = entry.find("bndbox")
    if box is None:
        raise ValueError("no bndbox; wanted xmin ymin xmax ymax")
    x0, y0, x1, y1 = (finite_number(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
    name = class_name((entry.findtext("name") or "").strip())
    return LabelledObject(
        name,
        (x0 - 1, y0 - 1, x1, y1),
        _flag(entry, "difficult"),
        TRUNCATED if _flag(entry, "truncated") else 0.0,
        OCCLUDED if _flag(entry, "occluded") else 0,
    )


def _flag(entry: ET.Element, key: str) -> bool:
    text = (entry.findtext(key) or "0").strip()
    if text not in {"0", "1"}:
        raise ValueError(f"{key} {short(text)}, wanted 0 or 1")
    return text == "1"
