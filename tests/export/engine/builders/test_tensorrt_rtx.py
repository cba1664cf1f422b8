"""For which GPUs TensorRT for RTX compiles, named or not."""

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from edgedetr.export.engine.builders.tensorrt_rtx import configure, targets
from edgedetr.export.engine.options import EngineOptions
from edgedetr.export.to_engine import export_engine
from edgedetr.runtime.cuda.device import find_device
from edgedetr.runtime.errors import UsageError


@pytest.fixture
def trt():
    """What the library knows: GPUs from 7.5 to 12.0."""
    one_of: Any = enum.IntEnum
    known = one_of("ComputeCapability", "NONE CURRENT SM75 SM80 SM86 SM120")
    return SimpleNamespace(__version__="1.7.1", ComputeCapability=known)


@pytest.mark.parametrize(
    ("requested", "found"),
    [
        ((), ("sm_80", "sm_86", "sm_120")),
        (("7.5",), ("sm_75",)),
        (("12.0", "8.6", "12.0"), ("sm_120", "sm_86")),
    ],
)
def test_an_engine_is_for_the_named_gpus_or_for_all_from_8_0_up(trt, requested, found):
    assert targets(trt, EngineOptions(compute_capabilities=requested)) == found


def test_a_gpu_that_the_library_does_not_know_is_refused(trt):
    with pytest.raises(UsageError, match=r"1\.7\.1 .*capability 9\.0; choose from 7\.5, .*12\.0"):
        targets(trt, EngineOptions(compute_capabilities=("8.6", "9.0")))


@pytest.mark.parametrize("requested", [(), ("8.6", "8.0", "8.6")])
def test_the_library_is_told_each_named_gpu_once(trt, requested):
    told = {}
    config = SimpleNamespace(set_compute_capability=lambda c, index: told.update({index: c.name}))
    configure(trt, config, EngineOptions(compute_capabilities=requested))
    assert config.num_compute_capabilities == len(told)
    assert told == ({0: "SM86", 1: "SM80"} if requested else {})


def test_without_a_device_an_engine_is_for_all_that_the_library_knows(tiny_onnx, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    steps = []
    report = export_engine(
        tiny_onnx(batch="N"),
        tmp_path / "tiny.engine",
        EngineOptions(batch=(1, 1, 4)),
        backend="tensorrt_rtx",
        on_step=lambda *step: steps.append(step),
    )
    assert report.targets == ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
    assert ("Building engine", 6, 6) in steps
    assert report.layers is None or find_device()
