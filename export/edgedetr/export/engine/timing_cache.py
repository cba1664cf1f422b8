"""Kernel timings kept between builds, for one GPU and one version of the library.

The file starts with a line that names both. A file of others is never used and never overwritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedetr.export.engine.builders import version_of
from edgedetr.runtime.cuda.device import find_device
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import atomic_path, read_bytes

if TYPE_CHECKING:
    from pathlib import Path

_TITLE = "edgedetr timing cache for "
_MOST_BYTES = 256 << 20


def cache_key(trt: Any) -> str:  # noqa: ANN401
    """Name the library's version and the GPU, as the first line of a cache does."""
    device = find_device()
    where = f"{device.name} ({device.target})" if device else "no GPU"
    return f"{version_of(trt)} on {where}"


def start_cache(config: Any, path: Path, key: str) -> str:  # noqa: ANN401
    """Give a builder the times of a file; an empty cache where the file is missing or of others.

    Returns:
        Why the file is not used; empty when it is, or is missing.

    Raises:
        ArtifactError: If the file is no timing cache.
    """
    cache = config.create_timing_cache(b"")
    problem = _fill(config, cache, path, key) if path.is_file() else ""
    config.set_timing_cache(cache, ignore_mismatch=False)
    return problem


def save_cache(config: Any, path: Path, key: str) -> None:  # noqa: ANN401
    """Write what the builder knows now, with its key."""
    with atomic_path(path) as temporary:
        blob = bytes(config.get_timing_cache().serialize())
        temporary.write_bytes(f"{_TITLE}{key}\n".encode() + blob)


def _fill(config: Any, cache: Any, path: Path, key: str) -> str:  # noqa: ANN401
    try:
        line, newline, blob = read_bytes(path, _MOST_BYTES).partition(b"\n")
    except ValueError as error:
        raise ArtifactError(f"{path}: not a timing cache: {error}") from error
    title = line.decode(errors="replace")
    if not newline or not title.startswith(_TITLE):
        raise ArtifactError(
            f"{path} is no timing cache that edgedetr wrote; name another file for --timing-cache"
        )
    found = title.removeprefix(_TITLE)
    if found != key:
        return (
            f"{path} was timed with {found}, this is {key}: not used and left as it is; give "
            "each its own file"
        )
    saved = config.create_timing_cache(blob)
    if saved is None or not cache.combine(saved, ignore_mismatch=False):
        return f"{path} is refused by {key}: not used and left as it is; delete it"
    return ""
