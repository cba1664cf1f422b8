"""The recipes for KITTI, BDD100K and COCO: each takes two steps on small data of its classes."""

import json
import sys
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedetr.distill import recipe
from edgedetr.distill.config import load_config
from edgedetr.distill.model import new_model
from edgedetr.distill.teacher_config import names_of
from edgedetr.distill.weights.checkpoint import save_model
from edgedetr.runtime.spec import ModelSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIGS = Path(__file__).parents[2] / "distill" / "configs"
RECIPES = sorted(
    p.stem for p in CONFIGS.glob("*_*.toml") if p.stem.startswith(("kitti_d", "bdd", "coco"))
)
HW = (96, 160)
TEACHERS = {"ustc-community/dfine-large-coco": "d_fine", "PekingU/rtdetr_v2_r101vd": "rt_detr_v2"}
SMALL = "edge-tiny"
"""What stands for the recipe's preset: the family is the recipe's."""


def small_coco(root, classes):
    """Write four frames of two objects each as train and val of a COCO folder."""
    (root / "train").mkdir(parents=True)
    images, annotations = [], []
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (*HW, 3), np.uint8)
        cv2.imwrite(str(root / f"train/{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "height": HW[0], "width": HW[1]})
        annotations += [
            {
                "id": 2 * number + place + 1,
                "image_id": number,
                "category_id": (number + place) % len(classes),
                "bbox": [10 + 70 * place, 20, 50, 40],
                "area": 2000,
                "iscrowd": 0,
            }
            for place in range(2)
        ]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    labels = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(labels), encoding="utf-8")


@pytest.fixture
def overrides(tmp_path):
    """Settings that let a recipe run on a CPU without a network: weights, data and sizes."""

    def make(values):
        data = values["data"]
        classes = data.get("classes", ["Car", "Pedestrian", "Cyclist"])
        small_coco(tmp_path / "data", classes)
        found = {
            "data.root": f'"{tmp_path / "data"}"',
            "data.format": '"coco"',
            "data.val_split": '"train"',
            "data.workers": "0",
            "data.scales": "[1.0]" if "scales" not in data else "[1.0, 1.34]",
            "student.preset": f'"{SMALL}"',
            "student.input_hw": str(list(HW)),
            "epochs": "1",
            "batch_size": "2",
            "save_every_steps": "1",
        }
        for name in ("init", "backbone_weights"):
            if name in values["student"]:
                found[f"student.{name}"] = '""'
        if "teacher" in values:
            theirs = names_of(values.get("class_map", {}), classes)
            spec = ModelSpec(HW, tuple(dict.fromkeys(chain.from_iterable(theirs))))
            path = tmp_path / "teacher.safetensors"
            save_model(path, new_model(TEACHERS[values["teacher"]], SMALL, spec), command="a test")
            found["teacher"] = f'"{path}"'
        return [f"{key}={value}" for key, value in found.items()]

    return make


def test_there_are_recipes_for_each_data_set_and_one_without_a_teacher():
    kinds = [tomllib.loads((CONFIGS / f"{name}.toml").read_text("utf-8")) for name in RECIPES]
    assert {name.split("_")[0] for name in RECIPES} == {"kitti", "bdd100k", "coco"}
    assert any(values["methods"] == ["none"] and values["student"]["init"] for values in kinds)
    assert {values["student"]["family"] for values in kinds} == {
        *("d_fine", "deimv2", "rt_detr_v2", "deformable_detr", "dino", "dab_detr")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_takes_two_steps(name, overrides, tmp_path):
    path = CONFIGS / f"{name}.toml"
    values = tomllib.loads(path.read_text("utf-8"))
    config = load_config(path, overrides(values))
    metrics = recipe.train(config, tmp_path / "run", "a test")
    lines = (tmp_path / "run/log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [record for record in map(json.loads, lines) if record["kind"] == "step"]
    assert len(steps) >= 2
    assert all(np.isfinite(record["loss"]) for record in steps)
    assert 0 <= metrics["ap"] <= 1
    assert (tmp_path / "run/student.safetensors").is_file()
