"""Models by name: what is a name of the Hugging Face hub, and where what is made of it is kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILE_SUFFIX = re.compile(r"\.[A-Za-z]\w*")
TORCHVISION = "torchvision:"
"""What a name of torchvision's begins with."""
CONFIG = "config.json"


def is_foreign(source: str | os.PathLike[str]) -> bool:
    """Tell whether a source is a folder of transformers, or a name of the hub or of torchvision.

    What ends like a file, and whatever exists under its name, is none.

    >>> is_foreign("ustc-community/dfine-large-coco"), is_foreign("runs/student.onnx")
    (True, False)
    >>> is_foreign("torchvision:fcos_resnet50_fpn")
    True
    """
    path = Path(source)
    if path.exists():
        return (path / CONFIG).is_file()
    if os.fspath(source).startswith(TORCHVISION):
        return True
    is_file = FILE_SUFFIX.fullmatch(path.suffix) is not None
    return NAME.fullmatch(os.fspath(source)) is not None and not is_file


def cache_folder(kind: str) -> Path:
    """Return where a user's models of a kind are kept.

    It lies below $EDGEDETR_CACHE, or below ``edgedetr`` in $XDG_CACHE_HOME or ~/.cache.
    """
    own, shared = (Path(os.environ.get(n, "")) for n in ("EDGEDETR_CACHE", "XDG_CACHE_HOME"))
    if own.is_absolute():
        return own / kind
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "edgedetr" / kind
