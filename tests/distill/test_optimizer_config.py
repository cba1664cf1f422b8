import pytest

from edgedetr.distill.optimizer_config import LATER, OptimizerConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0}, "must be positive"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
        ({"frozen_stages": -2}, "frozen_stages must be at least -1"),
        ({"gamma": 0}, r"gamma must lie in \(0, 1\], got 0"),
        ({"layer_decay": 1.5}, r"layer_decay must lie in \(0, 1\], got 1.5"),
        ({"flat_share": -0.1}, r"flat_share must lie in \[0, 1\], got -0.1"),
        ({"final_factor": 2}, r"final_factor must lie in \[0, 1\], got 2"),
        ({"milestones": (0.9, 0.5)}, r"milestones must be rising shares .*\[0.9, 0.5\]"),
        ({"milestones": (0.5, 0.5)}, "milestones must be rising"),
        ({"milestones": (12.0,)}, "milestones must be rising"),
        ({"base_batch_size": -1}, "base_batch_size must be at least 0"),
        ({"ema_warmup_steps": -1}, "ema_warmup_steps must be at least 0"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)


def test_what_came_later_is_off_by_default():
    config = OptimizerConfig()
    assert {name: getattr(config, name) for name in LATER} == {
        "base_batch_size": 0,
        "schedule": "cosine",
        "milestones": (0.7, 0.9),
        "gamma": 0.1,
        "flat_share": 0.5,
        "final_factor": 0.0,
        "layer_decay": 1.0,
        "frozen_stages": -1,
        "ema_warmup_steps": 0,
    }
