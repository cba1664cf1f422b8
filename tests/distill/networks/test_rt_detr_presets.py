import pytest

from edgedetr.distill.networks.rt_detr_presets import PRESETS, config_values


@pytest.mark.parametrize(
    ("preset", "channels", "encoder"),
    [("r18", [128, 256, 512], 256), ("r101", [512, 1024, 2048], 384)],
)
def test_the_encoder_takes_the_last_three_stages(preset, channels, encoder):
    values = config_values(PRESETS[preset], 3)
    assert values["encoder_in_channels"] == channels
    assert values["decoder_in_channels"] == [encoder] * 3
    assert values["encoder_hidden_dim"] == encoder


def test_batch_norms_stay_live_in_every_size():
    for shape in PRESETS.values():
        assert config_values(shape, 3)["freeze_backbone_batch_norms"] is False


def test_the_width_of_a_head_is_a_power_of_two():
    for name, shape in PRESETS.items():
        head = shape.width // shape.heads
        assert shape.width == head * shape.heads, name
        assert head & (head - 1) == 0, name
