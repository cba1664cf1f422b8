"""GPUs multiply FP8 from compute capability 8.9 up."""

from pathlib import Path

import pytest

from edgedetr.export.engine.fp8_targets import check_targets
from edgedetr.export.engine.precision import Precision
from edgedetr.runtime.errors import UsageError

PATH = Path("m.fp8.onnx")
FP8 = Precision({"FP16": 2, "FP8": 1})


def test_ada_hopper_blackwell_and_thor_multiply_it():
    check_targets(FP8, ["sm_89", "sm_90", "sm_101", "sm_110", "sm_120"], PATH)


def test_graphs_without_it_are_for_all():
    check_targets(Precision({"INT8": 1}), ["sm_87"], PATH)


@pytest.mark.parametrize("target", ["sm_87", "sm_86", "sm_80+", "sm_75"])
def test_orin_and_ampere_do_not(target):
    with pytest.raises(UsageError, match=rf"m\.fp8\.onnx is FP8, which {target[:5]}.*INT8 model"):
        check_targets(FP8, ["sm_89", target], PATH)
