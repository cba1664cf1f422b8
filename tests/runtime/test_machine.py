from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import onnxruntime

from edgedetr.runtime.machine import machine_facts, package_versions


def test_the_facts_name_the_machine_and_what_computed() -> None:
    facts = machine_facts("torch, CPU")
    assert facts["backend"] == "torch, CPU"
    assert facts["cores"] == os.cpu_count()
    assert facts["python"] == platform.python_version()
    assert facts["processor"]
    assert machine_facts()["backend"] == "onnxruntime, CPU"


def test_the_facts_need_no_torch() -> None:
    script = "import edgedetr.runtime.machine, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_packages_that_compute_are_named_with_their_versions() -> None:
    found = package_versions()
    assert f"numpy=={np.__version__}" in found
    assert f"onnxruntime=={onnxruntime.__version__}" in found
