"""A builder's log and progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OnStep = Callable[[str, int, int], None]
"""Called with the name of a phase of the build, its finished steps and all its steps."""

KEPT = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO")
"""Severities that go into the log; the rest is ten thousand lines a build."""


class EngineLog:
    """The lines of a builder's log, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def add(self, severity: str, message: str) -> None:
        """Keep a message unless it is verbose."""
        if severity in KEPT:
            self.lines.append((severity, " ".join(message.split())))

    def last_error(self) -> str:
        """Return the last error; empty when there is none."""
        errors = [message for severity, message in self.lines if severity.endswith("ERROR")]
        return errors[-1] if errors else ""

    def weights_mib(self) -> float | None:
        """Return the size of the engine's weights where the builder reports it, in MiB."""
        for _, message in reversed(self.lines):
            start, _, rest = message.partition("Total Weights Memory: ")
            if rest and not start:
                return int(rest.split()[0]) / 2**20
        return None

    def text(self) -> str:
        """Return the log, a message a line."""
        return "".join(f"{severity}: {message}\n" for severity, message in self.lines)


def make_logger(trt: Any, log: EngineLog) -> Any:  # noqa: ANN401
    """Make the library's logger that writes into a log."""

    def write(_: object, severity: Any, message: str) -> None:  # noqa: ANN401
        log.add(severity.name, message)

    return _subclass(trt.ILogger, {"log": write})


def make_monitor(trt: Any, on_step: OnStep | None, stops: Callable[[], bool]) -> Any:  # noqa: ANN401
    """Make the library's progress monitor; None where it has none.

    Args:
        trt: The library.
        on_step: Called with the progress.
        stops: Whether the build shall end; called after every step.
    """
    if not hasattr(trt, "IProgressMonitor"):
        return None
    totals: dict[str, int] = {}
    tell = on_step or (lambda *_: None)

    def start(_: object, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        del parent_phase
        totals[phase_name] = num_steps
        tell(phase_name, 0, num_steps)

    def step(_: object, phase_name: str, step: int) -> bool:
        tell(phase_name, step + 1, totals.get(phase_name, step + 1))
        return not stops()

    def finish(_: object, phase_name: str) -> None:
        steps = totals.pop(phase_name, 0)
        tell(phase_name, steps, steps)

    methods = {"phase_start": start, "step_complete": step, "phase_finish": finish}
    return _subclass(trt.IProgressMonitor, methods)


def _subclass(interface: Any, methods: dict[str, Any]) -> Any:  # noqa: ANN401
    """Make an object of a new subclass of one of the library's interfaces."""

    def begin(self: object) -> None:
        interface.__init__(self)

    return type(interface.__name__, (interface,), {"__init__": begin, **methods})()
