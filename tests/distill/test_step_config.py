import pytest

from edgedetr.distill.step_config import StepConfig, check_passes


def test_one_pass_asks_for_nothing():
    check_passes(StepConfig(), 1, ["clock"])
    check_passes(StepConfig(accumulate=4), 4, [])


@pytest.mark.parametrize(
    ("batch_size", "held", "message"),
    [
        (8, ["clock"], r"method\.clock\.share is measured on the gradient of a whole batch"),
        (3, [], "batch_size with train.accumulate must be at least 4"),
    ],
)
def test_passes_that_cannot_be_are_refused(batch_size, held, message):
    with pytest.raises(ValueError, match=message):
        check_passes(StepConfig(accumulate=4), batch_size, held)


def test_a_step_has_at_least_one_pass():
    with pytest.raises(ValueError, match="accumulate must be at least 1"):
        StepConfig(accumulate=0)
