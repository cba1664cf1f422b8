"""Detect in a stream of frames, each in time or not at all."""

from edgedetr.runtime.stream.stream import Stream

__all__ = ["Stream"]
