"""The formats in which detections are saved, for the command line, which loads nothing heavy."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

SaveFormat: TypeAlias = Literal["kitti", "coco", "yolo"]
SAVE_FORMATS: tuple[SaveFormat, ...] = get_args(SaveFormat)
