import pytest

from edgedetr.distill.networks.fake_quantization import Quantization
from edgedetr.export.transforms.trained_ranges import _method
from edgedetr.runtime.errors import ArtifactError


def ranges_of(method):
    return Quantization((), "", "", method, 99.99, 4, "0" * 64)


def test_a_method_of_calibration_is_taken_over():
    assert _method(ranges_of("entropy")) == "entropy"


def test_a_method_that_calibration_does_not_have_is_refused():
    with pytest.raises(ArtifactError, match=r"from method 'median'; wanted one of mse, percentile"):
        _method(ranges_of("median"))
