import pytest

from edgedetr.distill.detectors import d_fine


def test_a_preset_builds_its_shape(make_model):
    network = make_model("d_fine", "edge-micro").network
    assert network.config.num_queries == 40
    assert network.config.max_num_bins == 32
    assert len(network.model.decoder.layers) == 2
    assert d_fine.width(network) == d_fine.embedding_width(network) == 80


@pytest.mark.parametrize("preset", d_fine.PRESETS)
def test_the_last_stages_are_the_levels(preset):
    """``nano`` has two levels, of strides 16 and 32."""
    shape = d_fine.PRESETS[preset].backbone
    assert shape.levels == (2 if preset == "nano" else 3)
    assert len(shape.out) == 4
