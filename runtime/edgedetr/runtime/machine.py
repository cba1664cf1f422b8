"""The machine of a measurement: hardware, system and packages; no names of hosts or users."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgedetr.runtime.manifest import versions_of

PACKAGES = ("edgedetr", "numpy", "onnx", "onnxruntime", "opencv-python-headless")


def machine_facts(backend: str = "onnxruntime, CPU") -> dict[str, str | float]:
    """Describe the machine.

    Args:
        backend: What did the computing, and on what.
    """
    facts: dict[str, str | float] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "backend": backend,
    }
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        facts["memory_gib"] = round(memory / 2**30, 1)
    if hasattr(os, "getloadavg"):
        facts["load_in_the_last_minute"] = round(os.getloadavg()[0], 2)
    return facts


def package_versions() -> tuple[str, ...]:
    """List the packages that a measurement depends on, as ``name==version``."""
    return versions_of(PACKAGES)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
