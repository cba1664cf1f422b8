"""A study that trains in a second: eight small frames, four steps, two arms."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from edgedetr.bench.study.frames import Part, pack, splits_of
from edgedetr.bench.study.plan import Arm, Pair, Try
from edgedetr.bench.study.workshop import Study
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.model import new_model
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = ModelSpec((64, 96), ("Car", "Pedestrian", "Cyclist"), resize="stretch")
LABEL = "Car 0.00 0 0 {} 10.0 {} 40.0 1 1 1 1 1 1 0\n"


@pytest.fixture(scope="session")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight grey frames to train on and two to test, each with a white car."""
    root: Path = tmp_path_factory.mktemp("kitti")
    for name in ("training/image_2", "training/label_2", "ImageSets"):
        (root / name).mkdir(parents=True)
    for index in range(10):
        image = np.full((64, 96, 3), 90, np.uint8)
        left = 5 + 6 * index
        image[10:40, left : left + 24] = 255
        cv2.imwrite(str(root / f"training/image_2/{index:06d}.png"), image)
        label = LABEL.format(left, left + 24)
        (root / f"training/label_2/{index:06d}.txt").write_text(label, encoding="utf-8")
    for split, ids in {"train": range(8), "val": range(8, 10)}.items():
        lines = "".join(f"{i:06d}\n" for i in ids)
        (root / f"ImageSets/{split}.txt").write_text(lines, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def packed(kitti: Path) -> Path:
    """These frames, packed: six train, two tune, two test."""
    train, val = (open_dataset(kitti, split, SPEC.class_names) for split in ("train", "val"))
    fit, tune = splits_of(len(train), 4)
    parts = {"train": Part(train, fit), "tune": Part(train, tune), "test": Part(val, range(2))}
    path = kitti / "small.npz"
    pack(path, parts, SPEC)
    return path


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small teacher's checkpoint."""
    root: Path = tmp_path_factory.mktemp("project")
    torch.manual_seed(1)
    teacher = new_model("d_fine", "edge-small", SPEC)
    save_model(root / "teacher.safetensors", teacher, command="a test")
    return root


PAIR = Pair(
    data="small",
    teacher="teacher.safetensors",
    family="d_fine",
    preset="edge-tiny",
    arms={"none": Arm(), "heir": Arm(("clock",), inherit=True, over=("none",))},
    steps=4,
    batch=2,
    seeds=2,
    plain_tries=(Try(1e-3),),
    tries=(Try(1e-3),),
)


@pytest.fixture(scope="session")
def study_of() -> Callable[..., Study]:
    """Makes a study of packed frames, a project's folder and a folder to work in."""

    def make(packed: Path, project: Path, work: Path) -> Study:
        return Study(
            pairs={"small": PAIR},
            packs={"small": packed},
            root=project,
            work=work,
            variants=2,
            until=math.inf,
            device="cpu",
            code="abc",
        )

    return make


@pytest.fixture
def make_study(
    study_of: Callable[..., Study], packed: Path, project: Path, tmp_path: Path
) -> Callable[..., Study]:
    """Makes the study; keywords replace what it holds."""
    return partial(replace, study_of(packed, project, tmp_path))
