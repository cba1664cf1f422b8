"""The system of a device: JetPack, libraries, groups, power mode, clocks, temperatures, memory.

What a machine does not have is None or left out: most of it is there on a Jetson alone.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgedetr.runtime.cuda.device import LIBRARY

GROUPS = ("video", "render")
"""Whoever uses camera and GPU must be in them, unless it is root."""
PACKAGES = ("tensorrt", "tensorrt-rtx-cu13", "pycuda", "onnxruntime", "numpy")

_ROOT = Path("/")


def group_membership() -> dict[str, bool | None]:
    """Tell of each group of `GROUPS` whether this process is in it; None where there is none."""
    try:
        import grp
    except ImportError:  # Windows
        return dict.fromkeys(GROUPS)
    numbers = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    mine = {*os.getgroups(), os.getegid()}
    return {name: numbers[name] in mine if name in numbers else None for name in GROUPS}


def jetpack_release(root: Path = _ROOT) -> str | None:
    """Return the line in which L4T, the system of a Jetson, names its release."""
    lines = _text(root / "etc/nv_tegra_release").splitlines()
    return lines[0].lstrip("# ") if lines else None


def library_versions() -> dict[str, str | None]:
    """Return the versions of the packages in `PACKAGES` and of CUDA in the driver."""
    versions: dict[str, str | None] = {name: _version(name) for name in PACKAGES}
    return versions | {"cuda_driver": _cuda_version()}


def power_mode() -> str | None:
    """Return the power mode that ``nvpmodel`` reports, for example ``MAXN``."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return None
    done = subprocess.run([tool, "-q"], capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r"NV Power Mode: *(\S+)", done.stdout)
    return found[1] if found else None


def clocks_mhz(root: Path = _ROOT) -> dict[str, tuple[float, float]]:
    """Return the present and the highest clock of each core, and of the GPU where it is listed."""
    clocks = {}
    for folder in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        now, most = _number(folder / "scaling_cur_freq"), _number(folder / "scaling_max_freq")
        if now is not None and most is not None:
            clocks[folder.parent.name] = (now / 1e3, most / 1e3)
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        now, most = _number(folder / "cur_freq"), _number(folder / "max_freq")
        if now is not None and most is not None:
            clocks[folder.name] = (now / 1e6, most / 1e6)
    return clocks


def temperatures_c(root: Path = _ROOT) -> dict[str, float]:
    """Return the temperature of each thermal zone that is switched on, in degrees Celsius."""
    temperatures = {}
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        found = _number(folder / "temp")
        if found is not None:
            temperatures[_text(folder / "type").strip() or folder.name] = found / 1e3
    return temperatures


def memory_mib(root: Path = _ROOT) -> dict[str, float]:
    """Return how much memory the machine has and how much of it is available, in MiB."""
    found = re.findall(r"(MemTotal|MemAvailable): *(\d+) kB", _text(root / "proc/meminfo"))
    names = {"MemTotal": "total", "MemAvailable": "available"}
    return {names[name]: round(int(kib) / 1024, 1) for name, kib in found}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # also a sensor that is switched off
        return ""


def _number(path: Path) -> float | None:
    found = re.fullmatch(r"-?\d{1,15}", _text(path).strip())
    return float(found[0]) if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda_version() -> str | None:
    try:
        cuda: Any = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    number = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"
