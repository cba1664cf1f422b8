"""The packages that a measurement depends on."""

from __future__ import annotations

from edgedetr.runtime.manifest import versions_of

PACKAGES = ("edgedetr", "numpy", "onnx", "onnxruntime", "opencv-python-headless")


def package_versions() -> tuple[str, ...]:
    """List the packages that measured, as ``name==version``."""
    return versions_of(PACKAGES)
