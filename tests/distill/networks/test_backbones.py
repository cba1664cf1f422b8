from edgedetr.distill.networks.backbones import (
    B0_TWO_LEVELS,
    R18,
    R50,
    backbone_of,
    hgnet_config,
    resnet_config,
    resnet_d_config,
)


def test_a_bottleneck_widens_each_stage_by_four():
    assert R18.out == (64, 128, 256, 512)
    assert R50.out == (256, 512, 1024, 2048)


def test_the_last_stages_feed_the_encoder():
    """transformers counts the stem as stage 0."""
    assert resnet_config(R18, 1).out_indices == [4]
    assert resnet_d_config(R50, 3).out_indices == [2, 3, 4]
    assert hgnet_config(B0_TWO_LEVELS).out_indices == [3, 4]


def test_each_stage_takes_what_the_one_before_gives():
    config = hgnet_config(B0_TWO_LEVELS)
    assert config.stage_in_channels == [16, 64, 256, 512]
    assert config.stage_out_channels == [64, 256, 512, 1024]


def test_the_backbone_of_a_network_has_no_neck(make_model):
    for family in ("d_fine", "retinanet"):
        network = make_model(family).network
        inside = {id(p) for p in backbone_of(network).parameters()}
        names = [name for name, p in network.named_parameters() if id(p) in inside]
        assert names
        assert all("backbone" in name and "fpn" not in name for name in names)
