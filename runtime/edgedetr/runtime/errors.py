"""The errors that a user of EdgeDETR may meet.

::

    EdgeDetrError          exit status 1: the work could not be done
    ├── UsageError         exit status 2: the request itself is wrong
    │   ├── SettingsError      unknown key, wrong type, value out of range
    │   └── UnknownNameError   no component (detector, method, backend, preset) of that name
    ├── DataError          an image, a label or a data set folder is missing or damaged
    ├── ArtifactError      a checkpoint, ONNX file or manifest is missing, damaged or foreign
    ├── GateError          a check ran and its gate did not hold
    ├── BackendError       a backend failed on one frame; the next may succeed
    └── BackendGoneError   no later frame can succeed
        ├── StuckError         it does not return; swap in a model or restart
        └── DeviceLostError    exit status 3: the GPU fails until the process ends; restart

A message says what was found, what was wanted and what to do, in one line.
"""

from __future__ import annotations


class EdgeDetrError(Exception):
    """Anything that EdgeDETR reports in one line; ``exit_code`` is the command's status."""

    exit_code = 1


class UsageError(EdgeDetrError):
    """The request is wrong: an argument, a setting or a name."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, of the wrong type or out of range."""


class UnknownNameError(UsageError):
    """No component of that name exists."""


class DataError(EdgeDetrError):
    """An image, a label file or a data set folder is missing or damaged."""


class ArtifactError(EdgeDetrError):
    """A checkpoint, ONNX file or manifest is missing, damaged or of another model."""


class GateError(EdgeDetrError):
    """A check ran and its gate did not hold."""


class BackendError(EdgeDetrError):
    """A backend failed on one frame, or its outputs are not finite."""


class BackendGoneError(EdgeDetrError):
    """A backend failed for this frame and all later ones."""


class StuckError(BackendGoneError):
    """A backend did not return within its time limit."""


class DeviceLostError(BackendGoneError):
    """The GPU's context is broken for good: no call of this process works on it any more."""

    exit_code = 3
