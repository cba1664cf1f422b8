"""Keep TensorRT's log, because its calls return only None or False."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

_LOG = logging.getLogger(__name__)
_KEPT = 20
_loggers: dict[Any, tuple[Any, deque[str]]] = {}


class TrtLog:
    """The library's last errors; everything from a warning up also goes to Python's logging.

    TensorRT knows one logger a process and ignores every later one, so all sessions share it.
    """

    def __init__(self, trt: Any) -> None:  # noqa: ANN401
        if trt not in _loggers:
            errors: deque[str] = deque(maxlen=_KEPT)
            _loggers[trt] = (_make_logger(trt, errors), errors)
        self.logger, self._errors = _loggers[trt]

    def clear(self) -> None:
        """Forget the errors before the next call."""
        self._errors.clear()

    def reason(self) -> str:
        """Return the last error, or that there was none."""
        return self._errors[-1] if self._errors else "no reason given"


def _make_logger(trt: Any, errors: deque[str]) -> Any:  # noqa: ANN401
    severe = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding refuses super()

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in severe:
                errors.append(" ".join(message.split()))
                _LOG.error("%s", message)
            elif severity == trt.ILogger.WARNING:
                _LOG.warning("%s", message)

    return Logger()
