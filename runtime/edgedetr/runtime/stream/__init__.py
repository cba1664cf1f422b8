"""Run a detector on a stream: each frame in time, or dropped."""

from edgedetr.runtime.stream.stream import Stream

__all__ = ["Stream"]
