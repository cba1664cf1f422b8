"""Run a detector on a stream, count what was late, and write what was found."""

from edgedetr.runtime.stream.stream import Stream

__all__ = ["Stream"]
