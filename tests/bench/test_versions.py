"""Which packages a measurement names."""

from __future__ import annotations

import numpy as np
import onnxruntime

from edgedetr.bench.versions import package_versions


def test_the_packages_that_compute_are_named_with_their_versions() -> None:
    found = package_versions()
    assert f"numpy=={np.__version__}" in found
    assert f"onnxruntime=={onnxruntime.__version__}" in found
