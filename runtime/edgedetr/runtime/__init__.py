"""Run an exported detector in the vehicle.

::

    from edgedetr.runtime import Detector, Frame

The four names are imported on first use, so that `import edgedetr.runtime` costs almost nothing.

From 1.29 on ONNX Runtime reports models and sessions to its maker: it leaves a device's number and
a data base in the user's cache, and its threads and events take memory. It is told not to here,
because it asks when it is loaded; ``ORT_DISABLE_TELEMETRY=0`` in the environment lets it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedetr.runtime.detector import Detector
    from edgedetr.runtime.spec import ModelSpec
    from edgedetr.runtime.types import Detections, Frame

__version__ = "0.1.0"

__all__ = ["Detections", "Detector", "Frame", "ModelSpec"]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {"Detections": "types", "Detector": "detector", "Frame": "types", "ModelSpec": "spec"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
