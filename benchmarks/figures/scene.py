"""What the figures show: rendered frames, the teacher of rendered scenes, its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from edgedetr.calib.collect import collect
from edgedetr.distill.data.kitti import open_dataset
from edgedetr.distill.model import new_model
from edgedetr.distill.synth.writer import write_synth
from edgedetr.distill.training.network_inputs import NetworkInputs
from edgedetr.distill.types import Batch
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.distill.weights.inheritance import inherit
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.runtime.images import list_images

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from edgedetr.distill.model import Model
    from edgedetr.distill.training.network_inputs import Inputs
    from edgedetr.distill.types import Memory

TEACHER = Path(__file__).parents[2] / "distill/checkpoints/synth_teacher.safetensors"
STUDENT = "edge-micro"
"""The preset of the demo's student."""
FRAMES, SEED = 20, 7
"""How many frames are rendered, and with which seed."""
CUT = 99.0
"""Too few, so that there is something to lose."""
SHOWN = 11
"""The frame that is shown: cars, a cyclist and pedestrians."""


@dataclass(frozen=True)
class Scene:
    """Everything is made when it is first used.

    Attributes:
        folder: Where files are written.
    """

    folder: Path

    @cached_property
    def images(self) -> list[Path]:
        """The rendered frames."""
        write_synth(self.folder / "data", FRAMES, SEED)
        return list_images(self.folder / "data/training/image_2")

    @cached_property
    def teacher(self) -> Model:
        """The teacher, in evaluation mode."""
        return _frozen(load_model(TEACHER))

    @cached_property
    def student(self) -> Model:
        """A student as its training begins: it inherits, and the teacher fills the rest."""
        torch.manual_seed(SEED)
        student = new_model(self.teacher.family, STUDENT, self.teacher.spec)
        inherit(student, self.teacher)
        return _frozen(student)

    @cached_property
    def inputs(self) -> NetworkInputs:
        """The frames that are trained on, as the networks see them."""
        classes = self.teacher.spec.class_names
        folder = self.images[0].parents[2]
        return NetworkInputs(open_dataset(folder, "train", classes), self.teacher.spec)

    @cached_property
    def shown(self) -> Inputs:
        """The frame that is shown."""
        return self.inputs[SHOWN]

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """Its pixels, RGB (H, W, 3)."""
        return self.inputs.dataset[SHOWN].frame.image

    @cached_property
    def batch(self) -> Batch[Memory, Memory]:
        """A training step of all frames that are trained on."""
        items = [self.inputs[index] for index in range(len(self.inputs))]
        images = torch.stack([self.inputs.normalised(item.pixels) for item in items])
        targets = [item.targets for item in items]
        self.student.network.train()  # batch norms as in training
        mine, theirs = self.student.encode(images), self.teacher.encode(images)
        self.student.network.eval()
        return Batch(images, targets, cast("Memory", mine), cast("Memory", theirs))

    def corners(self, boxes: Tensor) -> NDArray[np.float32]:
        """Return boxes (N, 4) of the network's input as corners in pixels of the frame."""
        return self.shown.place.to_source(boxes.detach().numpy().astype(np.float32))

    @cached_property
    def fp32(self) -> Path:
        """The teacher as ONNX."""
        export_onnx(TEACHER, self.folder / "teacher.onnx")
        return self.folder / "teacher.onnx"

    @cached_property
    def int8(self) -> Path:
        """The teacher in INT8, with ranges that are cut to `CUT` per cent of the values."""
        known, seen = self.folder / "teacher.calib.json", self.images[: len(self.inputs)]
        stats = collect(self.fp32, seen, method="percentile", percentile=CUT, corrects_bias=False)
        stats.write(known)
        export_qdq(self.fp32, known, self.folder / "teacher.int8.onnx", rest="fp32")
        return self.folder / "teacher.int8.onnx"


def _frozen(model: Model) -> Model:
    model.network.eval().requires_grad_(requires_grad=False)
    return model
