"""The pairs of the study and the data that they learn from."""

from __future__ import annotations

from dataclasses import dataclass

from edgedetr.bench.study.plan import Arm, Pair, Try
from edgedetr.runtime.spec import ModelSpec


@dataclass(frozen=True)
class Source:
    """A data set of the study.

    Attributes:
        format: File name under ``edgedetr.distill.data``.
        spec: The network's input and the classes.
        tune_every: One of so many training frames tunes and does not train.
    """

    format: str
    spec: ModelSpec
    tune_every: int


SOURCES = {
    "synth": Source(
        "kitti",
        ModelSpec((96, 320), ("Car", "Pedestrian", "Cyclist"), resize="stretch"),
        tune_every=5,
    ),
    "road": Source(
        "coco",
        ModelSpec((160, 160), ("bus", "car", "motorbike", "person", "truck"), resize="stretch"),
        tune_every=6,
    ),
}

PLAIN_TRIES = (Try(4e-4), Try(8e-4), Try(1.6e-3), Try(3.2e-3))
TRIES = (Try(8e-4, 1), Try(8e-4, 3), Try(1.6e-3, 1), Try(1.6e-3, 3))

_BOTH = ("clock", "kd_detr")
_MEMORY = {"clock": {"tcld_weight": 0.0}}
_LOGITS = {"clock": {"lcmd_weight": 0.0}}
_CORNERS = {"clock": {"corner_weight": 0.5}}

_LONG = ("none, twice as long",)
_HEIRS = ("inherit", "inherit, a fifth longer", "inherit, twice as long")

DETR_ARMS = {
    "none": Arm(),
    "fgd": Arm(("fgd",), over=_LONG),
    "clock": Arm(("clock",), over=_LONG),
    "kd_detr": Arm(("kd_detr",), over=_LONG),
    "clock+kd_detr": Arm(_BOTH, over=_LONG),
    "inherit": Arm(inherit=True),
    "inherit+clock": Arm(("clock",), inherit=True, over=_HEIRS),
    "inherit+clock+kd_detr": Arm(_BOTH, inherit=True, over=_HEIRS),
    "inherit+clock's memory loss": Arm(("clock",), inherit=True, settings=_MEMORY, over=_HEIRS),
    "inherit+clock's logit loss": Arm(("clock",), inherit=True, settings=_LOGITS, over=_HEIRS),
    "inherit+clock+corners": Arm(("clock",), inherit=True, settings=_CORNERS, over=_HEIRS),
    "none, twice as long": Arm(length=2, tuned_as="none"),
    "inherit, a fifth longer": Arm(inherit=True, length=1.2, tuned_as="inherit"),
    "inherit, twice as long": Arm(inherit=True, length=2, tuned_as="inherit"),
}
"""A fifth longer is about what `clock` takes where the teacher's answers are cached, twice as long
more than it takes beside a live teacher."""

ROAD_ARMS = {
    name: DETR_ARMS[name]
    for name in (
        "none",
        "clock",
        "inherit",
        "inherit+clock",
        "none, twice as long",
        "inherit, a fifth longer",
        "inherit, twice as long",
    )
}

PAIRS = {
    "synth_d_fine": Pair(
        data="synth",
        teacher="distill/checkpoints/synth_teacher.safetensors",
        family="d_fine",
        preset="edge-tiny",
        arms=DETR_ARMS,
        steps=800,
        batch=32,
        seeds=5,
        plain_tries=PLAIN_TRIES,
        tries=TRIES,
    ),
    "road_d_fine": Pair(
        data="road",
        teacher="distill/checkpoints/road_teacher.safetensors",
        family="d_fine",
        preset="edge-tiny",
        arms=ROAD_ARMS,
        steps=1200,
        batch=32,
        seeds=5,
        plain_tries=PLAIN_TRIES,
        tries=TRIES,
    ),
}
