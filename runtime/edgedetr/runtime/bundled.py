"""Detectors that come with the whole package, by name; the vehicle's own wheel has none."""

from __future__ import annotations

from pathlib import Path

import edgedetr


def bundled_detectors() -> dict[str, Path]:
    """Return the ONNX file of each detector by its name, such as ``road``."""
    folders = [Path(folder) / "models" for folder in edgedetr.__path__]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.onnx"))}


def named_detector(path: Path) -> Path:
    """Return the file of a detector that comes with the package, or else the path itself.

    Only a bare name that is no file or folder here can be that of a detector.
    """
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    return bundled_detectors().get(path.name, path)
