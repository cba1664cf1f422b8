"""Where the frames of a stream come from: recordings and cameras."""

from edgedetr.runtime.sources.opening import open_source

__all__ = ["open_source"]
