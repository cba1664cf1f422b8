"""A run whose figures can be worked out by hand.

Every frame of the data set holds the same two objects, and every model answers the same whatever
it sees: the teacher both of them, the student the car and a pedestrian that is not there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedetr.bench.report import measure
from edgedetr.bench.report.assemble import DataChoice, write_report
from edgedetr.export.verify.figures import figures_from_pairs
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.export.verify.lost_share import lost_share
from edgedetr.export.verify.matching import Pairs
from edgedetr.export.verify.report import ParityReport
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE_HW = (64, 128)
SPEC = ModelSpec(input_hw=(32, 64), class_names=("Car", "Pedestrian", "Cyclist"), resize="stretch")
CAR, WALKER, NOBODY = (16, 8, 56, 48), (80, 12, 96, 44), (100, 0, 120, 20)
SURE, QUITE_SURE, NEVER = 4.0, 2.0, -20.0
FRAMES = 4


def save_constant_model(
    path: Path,
    answers: list[tuple[tuple[int, int, int, int], int, float]],
    spec: ModelSpec = SPEC,
    *,
    quantized: bool = False,
) -> None:
    """Write a detector that answers (box in source pixels, class, logit) to every image.

    A convolution of 2 x 3 x 3 x 3 weights over the input, without padding, adds nothing to it.
    """
    height, width = IMAGE_HW
    logits = np.full((1, len(answers), len(spec.class_names)), NEVER, np.float32)
    boxes = np.zeros((1, len(answers), 4), np.float32)
    for i, ((x0, y0, x1, y1), label, logit) in enumerate(answers):
        logits[0, i, label] = logit
        boxes[0, i] = (
            (x0 + x1) / 2 / width,
            (y0 + y1) / 2 / height,
            (x1 - x0) / width,
            (y1 - y0) / height,
        )
    arrays: dict[str, Any] = {
        "zero": np.zeros(1, np.float32),
        "fixed_logits": logits,
        "fixed_boxes": boxes,
    }
    nodes = []
    image, weight = "images", "weight"
    if quantized:
        arrays |= {
            "weight": np.ones((2, 3, 3, 3), np.int8),
            "weight_scale": np.ones(2, np.float32),
            "weight_zero": np.zeros(2, np.int8),
            "image_scale": np.float32(1),
            "image_zero": np.int8(0),
        }
        image, weight = "image_dq", "weight_dq"
        scale = ["image_scale", "image_zero"]
        nodes = [
            helper.make_node("QuantizeLinear", ["images", *scale], ["image_q"]),
            helper.make_node("DequantizeLinear", ["image_q", *scale], [image]),
            helper.make_node(
                "DequantizeLinear", ["weight", "weight_scale", "weight_zero"], [weight], axis=0
            ),
        ]
    else:
        arrays["weight"] = np.ones((2, 3, 3, 3), np.float32)
    nodes += [
        helper.make_node("Conv", [image, weight], ["seen"]),
        helper.make_node("ReduceMean", ["seen"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["fixed_logits", "nothing"], ["logits"]),
        helper.make_node("Add", ["fixed_boxes", "nothing"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, *spec.input_hw))],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits.shape),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, boxes.shape),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def make_kitti(root: Path) -> None:
    """Write four frames of 128 x 64 px, each with a car and a pedestrian; all of them in val."""
    for folder in ("training/image_2", "training/label_2", "ImageSets"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = [
        f"{name} 0 0 -10 {' '.join(map(str, box))} -1 -1 -1 -1000 -1000 -1000 -10\n"
        for name, box in (("Car", CAR), ("Pedestrian", WALKER))
    ]
    for i in range(FRAMES):
        image = rng.integers(0, 256, (*IMAGE_HW, 3), np.uint8)
        cv2.imwrite(str(root / f"training/image_2/{i:06}.png"), image)
        (root / f"training/label_2/{i:06}.txt").write_text("".join(lines))
    (root / "ImageSets/val.txt").write_text("".join(f"{i:06}\n" for i in range(FRAMES)))


def make_run(root: Path) -> Path:
    """Write the folder of a whole run below ``root``, and its data set at ``root/data``."""
    make_kitti(root / "data")
    folder = root / "tiny"
    student = [(CAR, 0, SURE), (NOBODY, 1, QUITE_SURE)]
    save_constant_model(folder / "teacher.onnx", [(CAR, 0, SURE), (WALKER, 1, QUITE_SURE)])
    save_constant_model(folder / "student.onnx", student)
    save_constant_model(folder / "student.int8.onnx", student, quantized=True)
    write_manifest(
        folder / "student.int8.onnx",
        kind="qdq",
        command="edgedetr export qdq <student>",
        spec=SPEC,
        parents=[folder / "student.onnx"],
    )
    config = {
        "data": {"root": str(root / "data"), "format": "kitti", "train_split": "train"},
        "student": {"family": "d_fine", "preset": "edge-tiny", "input_hw": [32, 64]},
        "methods": ["clock"],
        "teacher": "checkpoints/big.safetensors",
        "epochs": 3,
    }
    (folder / "metrics.json").write_text(json.dumps({"config": config}))
    log = [
        {"kind": "step", "step": 0, "epoch": 0, "loss": 4.0, "loss_vfl": 3.0, "lr": 1e-3},
        {"kind": "step", "step": 1, "epoch": 0, "loss": 2.0, "loss_vfl": 1.0, "lr": 1e-3},
        {"kind": "evaluation", "step": 2, "epoch": 0, "ap": 0.25, "ap50": 0.5},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    write_parity(folder)
    return folder


def write_parity(folder: Path, lost: int = 0, reason: str = "") -> None:
    """Write what ``edgedetr verify`` says of 50 frames with four pairs, where some boxes are off.

    Of the 50 first pairs, ``lost`` are off: none passes, 19 leave it undecided, 50 fail.
    """
    pairs = []
    for frame in range(50):
        box = np.array([40.0 if frame < lost else 0.25, 0, 0, 0])
        pairs.append(Pairs(box, np.zeros(4), np.array([0.5 if frame < lost else 1.0, 1, 1, 1]), 0))
    report = ParityReport(
        figures=figures_from_pairs(pairs, len(pairs), 0),
        share=lost_share([p.lost(INT8_LIMITS) for p in pairs], [len(p) for p in pairs]),
        limits=INT8_LIMITS,
        threshold=0.3,
        reference="student.onnx",
        reference_sha256=sha256(folder / "student.onnx"),
        candidate="student.int8.onnx",
        candidate_sha256=sha256(folder / "student.int8.onnx"),
        command="edgedetr verify student.onnx student.int8.onnx",
        precisions=("fp32", "int8"),
    )
    values = report.to_dict() | ({"reason": reason} if reason else {})
    (folder / "verify.int8.json").write_text(json.dumps(values))


@pytest.fixture
def parity() -> Callable[..., None]:
    """`write_parity`."""
    return write_parity


@pytest.fixture
def save_model() -> Callable[..., None]:
    """`save_constant_model`."""
    return save_constant_model


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a whole run, to be changed; it is timed on few frames."""
    monkeypatch.setattr(measure, "MIN_TIMED_FRAMES", 1)
    return make_run(tmp_path)


@pytest.fixture
def kitti_root(run: Path) -> Path:
    """The data set of the run."""
    return run.parent / "data"


@pytest.fixture
def report_json(tmp_path: Path) -> Callable[..., Path]:
    """Write the figures of a report that matter to what reads it back."""

    def write(name: str = "report.json", student: str = "student", **changes: Any) -> Path:
        figures = {
            "ap": 0.4,
            "ap50": 0.6,
            "ap50_by_class": {"Car": 0.7},
            "agreement_with_teacher": None,
            "latency_ms": {"p50": 5.0, "p99": 9.0},
            "file_mib": 1.5,
        }
        teacher = figures | {"name": "teacher", "ap": 0.5, "file_mib": 0.0}
        values = {
            "verdict": "passed",
            "models": [teacher, figures | {"name": student}],
            "data": {"root": "data/synth", "format": "kitti", "split": "val", "frames": 180},
            "machine": {"processor": "A", "cores": 2},
        }
        path = tmp_path / name
        path.write_text(json.dumps(values | changes))
        return path

    return write


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run with its report, to be read."""
    folder = make_run(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "MIN_TIMED_FRAMES", 10)
        write_report(folder, DataChoice(), command="edgedetr report tiny")
    return folder
