"""What the system says, from files as a Jetson has them and on a machine that has none."""

import os
from importlib.metadata import version

import pytest

from edgedetr.runtime.device_check import system


@pytest.fixture
def jetson(tmp_path):
    """A root folder with what is read of it."""
    for name, text in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0, GCID: 1, BOARD: generic\n# K\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48031\n",
        "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "1300500000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2201600\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "<unknown>\n",
        "proc/meminfo": "MemTotal:       64349408 kB\nMemFree: 1 kB\nMemAvailable:   1048576 kB\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_jetson(jetson):
    release = system.jetpack_release(jetson)
    assert release == "R36 (release), REVISION: 4.0, GCID: 1, BOARD: generic"
    # a zone that is switched off gives no number
    assert system.temperatures_c(jetson) == {"cpu-thermal": 48.031}
    clocks = {"cpu0": (729.6, 2201.6), "17000000.gpu": (306, 1300.5)}
    assert system.clocks_mhz(jetson) == clocks
    assert system.memory_mib(jetson) == {"total": 62841.2, "available": 1024}


def test_a_machine_without_any_of_it(tmp_path):
    assert system.jetpack_release(tmp_path) is None
    assert system.temperatures_c(tmp_path) == {}
    assert system.clocks_mhz(tmp_path) == {}
    assert system.memory_mib(tmp_path) == {}


def test_groups(monkeypatch):
    grp = pytest.importorskip("grp", reason="there are no groups on Windows")
    groups = [grp.struct_group(("video", "x", 44, [])), grp.struct_group(("root", "x", 0, []))]
    monkeypatch.setattr(grp, "getgrall", lambda: groups)
    monkeypatch.setattr(os, "getgroups", lambda: [44])
    assert system.group_membership() == {"video": True, "render": None}
    monkeypatch.setattr(os, "getgroups", list)
    assert system.group_membership() == {"video": os.getegid() == 44, "render": None}


def test_the_power_mode(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system.power_mode() is None
    tool = tmp_path / "nvpmodel"
    tool.write_text('#!/bin/sh\n[ "$1" = -q ] && echo "NV Power Mode: MAXN_SUPER" && echo 2\n')
    tool.chmod(0o755)
    assert system.power_mode() == "MAXN_SUPER"
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert system.power_mode() is None


def test_versions(monkeypatch):
    monkeypatch.setattr(system, "LIBRARY", "libno_such_driver.so")
    found = system.library_versions()
    assert found["numpy"] == version("numpy")
    assert found["cuda_driver"] is None
    monkeypatch.setattr(system, "PACKAGES", ("no-such-package",))
    assert system.library_versions() == {"no-such-package": None, "cuda_driver": None}
