"""What decides the result of a run: its settings, its data and the weights it starts from."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedetr.distill.data import Truth
from edgedetr.distill.labels.shard_files import Member
from edgedetr.distill.training.unlabelled import hash_of_names
from edgedetr.distill.weights.checkpoint import missing_checkpoint
from edgedetr.distill.weights.imported_cache import local_checkpoint
from edgedetr.distill.weights.pretrained import local_file
from edgedetr.distill.weights.torchvision_detector import detector_name
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.files import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgedetr.distill.data import Dataset

FREE = ("data.workers", "data.most_skipped", "save_every_steps", "keep_states")
"""Settings that change no weight; ``eval_every`` is one while no best student is kept."""
PLACES = (
    *("data.root", "data.unlabelled", "teacher", "teacher_cache.path", "foundation"),
    *("student.init", "student.backbone_weights"),
)
"""Settings that say where a file lies; what counts is what it holds."""

_SAMPLE = 4096
"""Bytes of an image that are hashed at each of three places."""


@dataclass(frozen=True)
class RunIdentity:
    """What two runs have in common that give the same student.

    Attributes:
        settings: ``table.key`` of every setting that counts.
        sources: SHA-256 of the labels, of the names and the contents of the images and of the
            weights that the run starts from; empty for weights that it does without.
    """

    settings: Mapping[str, Any]
    sources: Mapping[str, str]

    def difference(self, settings: Mapping[str, Any], sources: Mapping[str, str]) -> str:
        """Name the first thing that another run has otherwise, as part of a message.

        Args:
            settings: The other run's, as `settings_of` gives them.
            sources: Its sources; a missing one is not compared.

        Returns:
            Empty where there is no difference.
        """
        pairs = [(k, settings.get(k), self.settings.get(k)) for k in {*settings, *self.settings}]
        pairs += [(k, sources.get(k, v), v) for k, v in self.sources.items()]
        for key, found, wanted in sorted(pairs, key=lambda pair: pair[0]):
            if found != wanted:
                return f"{key} was {_shown(found)}, is {_shown(wanted)}"
        return ""


def identity_of(
    record: Mapping[str, Any], weights: Mapping[str, str], train: Dataset, validation: Dataset
) -> RunIdentity:
    """Return what decides a run's result.

    Args:
        record: What `DistillConfig.record` gives.
        weights: The files of weights that it starts from, by setting; empty ones are not used.
        train: The training split.
        validation: The validation split.

    Raises:
        ArtifactError: If the teacher or other weights are missing.
        DataError: If an image cannot be read.
    """
    sources = {
        setting: sha256(source_file(setting, source)) if source else ""
        for setting, source in weights.items()
    }
    for name, split in (("data.train_split", train), ("data.val_split", validation)):
        sources[f"{name}: images"] = hashlib.sha256("\0".join(split.ids).encode()).hexdigest()
        sources[f"{name}: pixels of images"] = contents_hash(split.paths)
        sources[f"{name}: labels"] = _labels_hash(split)
    folder = record["data"].get("unlabelled")
    if folder:
        sources["data.unlabelled: images"] = hash_of_names(folder)
    return RunIdentity(settings_of(record), sources)


def contents_hash(paths: Iterable[Path]) -> str:
    """Hash the size of each file and some bytes of its start, middle and end.

    A compressed picture that is made anew differs there; a few changed bytes elsewhere are not
    seen: reading all bytes of a large data set would take minutes.

    Raises:
        DataError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_sample(path))
    return digest.hexdigest()


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that count, by ``table.key``, of what `DistillConfig.record` gives."""
    plain = json.loads(json.dumps(record))
    free = {*FREE, *PLACES} | ({"eval_every"} if not plain.get("best_metric") else set())
    return {k: v for k, v in _flat(plain).items() if k not in free}


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name every value of nested tables as ``table.key``."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _sample(path: Path) -> bytes:
    """Return the size of a file and its bytes at three places; of a shard's member its hash."""
    if isinstance(path, Member):
        return bytes.fromhex(path.sha256)
    try:
        with path.open("rb", buffering=0) as file:
            last = max(0, (size := file.seek(0, os.SEEK_END)) - _SAMPLE)
            found = size.to_bytes(8, "little")
            for place in (0, last // 2, last):
                file.seek(place)
                found += file.read(_SAMPLE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return found


def _labels_hash(split: Dataset) -> str:
    digest = hashlib.sha256()
    for truth in split.truths:
        for field in fields(Truth):
            values = getattr(truth, field.name)
            digest.update(f"{field.name} {values.dtype} {values.shape}\n".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def source_file(setting: str, source: str) -> Path:
    """Return the file of weights that a setting of `DistillConfig.weights` names.

    Raises:
        ArtifactError: If it is missing.
    """
    is_start = setting != "teacher" and not Path(source).is_dir() and not detector_name(source)
    if setting == "foundation" or is_start:
        return local_file(source)
    path = local_checkpoint(source)
    if not path.is_file():
        raise missing_checkpoint(path)
    return path


def _shown(value: object) -> str:
    """Shorten a hash."""
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}..."
    return repr(value)
