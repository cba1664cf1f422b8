import pytest

from edgedetr.distill.weights.resnet_names import common_names


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("conv1.weight", "embedder.embedder.convolution.weight"),
        ("bn1.running_var", "embedder.embedder.normalization.running_var"),
        ("layer2.0.conv3.weight", "encoder.stages.1.layers.0.layer.2.convolution.weight"),
        ("layer1.1.bn2.bias", "encoder.stages.0.layers.1.layer.1.normalization.bias"),
        ("layer4.0.downsample.0.weight", "encoder.stages.3.layers.0.shortcut.convolution.weight"),
        ("layer4.0.downsample.1.bias", "encoder.stages.3.layers.0.shortcut.normalization.bias"),
    ],
)
def test_a_plain_resnet(name, common):
    assert common_names([name]) == {common: name}


def test_a_resnet_d_numbers_stem_and_shortcuts_otherwise():
    names = ["conv1.0.weight", "conv1.4.bias", "bn1.weight", "layer2.0.downsample.1.weight"]
    names.append("layer2.0.downsample.2.weight")
    shortcut = "encoder.stages.1.layers.0.shortcut"
    assert list(common_names(names)) == [
        "embedder.embedder.0.convolution.weight",
        "embedder.embedder.1.normalization.bias",
        "embedder.embedder.2.normalization.weight",
        f"{shortcut}.convolution.weight",
        f"{shortcut}.normalization.weight",
    ]


def test_heads_and_counters_are_left_out_and_other_names_stay():
    names = ["fc.weight", "head.bias", "bn1.num_batches_tracked", "blocks.0.weight"]
    assert common_names(names) == {"blocks.0.weight": "blocks.0.weight"}
