"""Frames of a study at the network's size, packed into one small file.

Images are WebP, which loses a little noise; every arm, and the teacher, see the same.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from edgedetr.distill.data import Truth
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.types import Targets
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import atomic_path
from edgedetr.runtime.preprocess import Placement
from edgedetr.runtime.spec import spec_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from edgedetr.distill.data import Dataset
    from edgedetr.runtime.spec import ModelSpec

QUALITY = 90
"""Of WebP."""


@dataclass(frozen=True, eq=False)
class Frames:
    """One split at network size.

    Attributes:
        pixels: uint8 (N, 3, H, W), RGB.
        targets: The truth of each frame, cxcywh in [0, 1] of the input.
        truths: The same in source pixels, as the evaluation takes it.
        places: Where each source frame lies in the input.
    """

    pixels: Tensor
    targets: list[Targets]
    truths: list[Truth]
    places: list[Placement]

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, count: int) -> Frames:
        """Keep the first frames."""
        return Frames(
            self.pixels[:count], self.targets[:count], self.truths[:count], self.places[:count]
        )


@dataclass(frozen=True)
class Part:
    """Some frames of a data set's split.

    Attributes:
        dataset: The split that they come from.
        indices: Which of its frames.
    """

    dataset: Dataset
    indices: Sequence[int]


def pack(path: Path, parts: Mapping[str, Part], spec: ModelSpec) -> None:
    """Write the parts of a study, which have no frame in common, into one file.

    Args:
        path: The file, an ``.npz``.
        parts: By the name of the study's split.
        spec: The network's input.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in parts.items():
        arrays |= {f"{name}.{key}": value for key, value in _packed(part, spec).items()}
    about = {"splits": list(parts), "spec": spec.to_json()}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def unpack(path: Path) -> tuple[ModelSpec, dict[str, Frames]]:
    """Read what `pack` wrote.

    Raises:
        ArtifactError: If it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays["about"].tobytes())
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: no packed frames: {error}; pack them anew") from error
    spec = spec_from_json(about["spec"], str(path))
    return spec, {name: _frames(arrays, name, spec) for name in about["splits"]}


def _packed(part: Part, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    inputs = NetworkInputs(part.dataset, spec)
    codes, sizes = [], []
    for index in part.indices:
        item = inputs[index]
        image = np.ascontiguousarray(item.pixels.numpy().transpose(1, 2, 0)[..., ::-1])
        _, code = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
        codes.append(code.ravel())
        sizes.append(item.place.source_hw)
    truths = [part.dataset.truths[index] for index in part.indices]
    return {
        "codes": np.concatenate(codes),
        "code_sizes": np.array([len(c) for c in codes]),
        "source_hw": np.array(sizes),
        "boxes": np.concatenate([t.boxes for t in truths]),
        "labels": np.concatenate([t.labels for t in truths]),
        "counts": np.array([len(t.labels) for t in truths]),
        "ignored": np.concatenate([t.ignored for t in truths]),
        "ignored_counts": np.array([len(t.ignored) for t in truths]),
    }


def _frames(arrays: Mapping[str, NDArray[Any]], name: str, spec: ModelSpec) -> Frames:
    codes, source_hw = (arrays[f"{name}.{key}"] for key in ("codes", "source_hw"))
    parts = np.split(codes, arrays[f"{name}.code_sizes"].cumsum()[:-1])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(_decoded, parts))
    ends = {k: arrays[f"{name}.{k}"].cumsum()[:-1] for k in ("counts", "ignored_counts")}
    boxes = np.split(arrays[f"{name}.boxes"], ends["counts"])
    labels = np.split(arrays[f"{name}.labels"], ends["counts"])
    ignored = np.split(arrays[f"{name}.ignored"], ends["ignored_counts"])
    places = [Placement((int(h), int(w)), spec.input_hw, spec.input_hw) for h, w in source_hw]
    truths = [_truth(b, z, i) for b, z, i in zip(boxes, labels, ignored, strict=True)]
    targets = [
        Targets(
            torch.from_numpy(truth.labels),
            torch.from_numpy(place.to_input(truth.boxes)),
            torch.from_numpy(place.to_input(truth.ignored)),
            f"{name}{index}",
        )
        for index, (truth, place) in enumerate(zip(truths, places, strict=True))
    ]
    return Frames(torch.from_numpy(np.stack(images)), targets, truths, places)


def _decoded(code: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert image is not None  # noqa: S101 - `pack` wrote it
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))


def _truth(
    boxes: NDArray[np.float32], labels: NDArray[np.int64], ignored: NDArray[np.float32]
) -> Truth:
    count = len(labels)
    return Truth(boxes, labels, np.zeros(count, np.float32), np.zeros(count, np.int64), ignored)


def splits_of(count: int, every: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return which frames of a split train, and which, one of ``every``, tune."""
    tune = range(0, count, every)
    return [i for i in range(count) if i % every], tune
