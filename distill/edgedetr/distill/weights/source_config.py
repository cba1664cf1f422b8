"""What the ``config.json`` of a detector of transformers says: family, size and class names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedetr.distill.detectors import importable_families
from edgedetr.distill.labels.coco_entries import repeated
from edgedetr.distill.weights.timm_backbone import in_transformers_terms
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIG = "config.json"
LEFT_OUT = (
    *("_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type"),
    *("num_labels", "torch_dtype", "transformers_version"),
)
"""What says nothing about the network, or is said elsewhere."""
UNNAMED = ("", "n/a", "__background__")
"""Labels of rows that stand for no class: COCO's numbers go up to 90, its classes are 80."""

EC_DECODER = "ECTransformer"
"""A key of the ``config.json`` that EdgeCrafter writes for ECDet."""
NO_EC_VIT = (
    "encoder and decoder are akin to DEIMv2's and D-FINE's, but no family here has its backbone "
    "ECViT; take DEIMv2 or D-FINE in its place"
)


@dataclass(frozen=True)
class SourceConfig:
    """A detector that comes from elsewhere.

    Attributes:
        family: File name under ``edgedetr.distill.detectors``.
        values: The options of its network, by transformers' names.
        rows: How many rows its class heads have.
        class_names: The classes, in the order of their rows.
        class_rows: The row of each class; empty where every row has a class.
    """

    family: str
    values: dict[str, Any]
    rows: int
    class_names: tuple[str, ...]
    class_rows: tuple[int, ...]


def read_source_config(folder: Path) -> SourceConfig:
    """Read the ``config.json`` of a folder.

    Raises:
        ArtifactError: If it is missing or damaged, names no family of this project, or does not
            name its classes.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ArtifactError(
            f"{folder} holds no {CONFIG}; wanted a folder that transformers' save_pretrained wrote"
        )
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: no readable {CONFIG}: {error}") from error
    if EC_DECODER in values:
        raise ArtifactError(f"{path} is of ECDet: {NO_EC_VIT}")
    family = _family(values.get("model_type"), path)
    labels = row_labels(values.get("id2label"), path)
    class_names, class_rows = named_rows(labels, path)
    kept = {key: value for key, value in values.items() if key not in LEFT_OUT}
    return SourceConfig(
        family=family,
        values=in_transformers_terms(family, kept, path),
        rows=len(labels),
        class_names=class_names,
        class_rows=class_rows,
    )


def named_rows(labels: Sequence[str], path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the classes of a head, and the row of each; no rows where every row has a class.

    Args:
        labels: What each row is called; one of `UNNAMED` stands for no class.
        path: Where they come from, for messages.

    Raises:
        ArtifactError: If no row has a class, or two have the same.
    """
    rows = tuple(row for row, name in enumerate(labels) if name.strip().lower() not in UNNAMED)
    class_names = tuple(labels[row].strip() for row in rows)
    twice = repeated(class_names)
    if twice:
        raise ArtifactError(
            f"{path}: id2label has the name {twice[0]!r} twice; name each class once"
        )
    if not class_names:
        raise ArtifactError(f"{path}: id2label names no class; give each row its name there")
    return class_names, () if len(rows) == len(labels) else rows


def _family(model_type: object, path: Path) -> str:
    """Return the family of transformers' ``model_type``."""
    known = importable_families()
    found = str(model_type or "").replace("-", "_")
    if found not in known:
        raise ArtifactError(
            f"{path}: model_type is {model_type!r}, no architecture that can be imported; those "
            f"are {', '.join(known)}"
        )
    return found


def row_labels(given: object, path: Path) -> list[str]:
    """Return the label of each row of an ``id2label``.

    Raises:
        ArtifactError: If it is missing, or a row has none.
    """
    if not isinstance(given, dict) or not given:
        raise ArtifactError(
            f"{path}: id2label is missing, so that no row of the class head has a name; add it, "
            'like "id2label": {"0": "car", "1": "truck"}'
        )
    wanted = [str(row) for row in range(len(given))]
    missing = [row for row in wanted if row not in given]
    if missing:
        raise ArtifactError(
            f"{path}: id2label has {len(given)} names but none of row {missing[0]}; number them "
            f"from 0 to {len(given) - 1}"
        )
    return [str(given[row]) for row in wanted]


def labels_beside(path: Path, rows: int, published: list[str]) -> list[str]:
    """Return the label of each row of a file's head: of the ``config.json`` beside it.

    Args:
        path: The file.
        rows: How many there are.
        published: The labels where there is no such file, if they are as many.

    Raises:
        ArtifactError: If the rows have no names, or not as many.
    """
    config = path.parent / CONFIG
    if not config.is_file():
        if rows == len(published):
            return published
        raise ArtifactError(
            f"{path} has {rows} classes, and only COCO's {len(published)} are known; name them in "
            f'{config}, like {{"id2label": {{"0": "car", "1": "truck"}}}}'
        )
    try:
        labels = row_labels(read_json(config).get("id2label"), config)
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{config}: no readable {CONFIG}: {error}") from error
    if len(labels) != rows:
        raise ArtifactError(
            f"{config}: id2label names {len(labels)} classes, {path.name} has {rows}"
        )
    return labels
