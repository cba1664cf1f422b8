import pytest
import torch
from transformers import YolosConfig, YolosForObjectDetection

from edgedetr.distill.networks.transformers_model import config_from, network_from
from edgedetr.runtime.errors import ArtifactError

OPTIONS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": [32, 48],
    "num_detection_tokens": 4,
}


def network(tensors=None, **options):
    config = config_from(YolosConfig, {**OPTIONS, **options}, 3)
    return network_from(YolosForObjectDetection, config, tensors)


def test_a_network_has_the_tensors_that_it_is_given():
    given = network().state_dict()
    made = network({**given, "left_over": torch.zeros(1)})
    assert not made.training
    assert made.config.num_labels == 3
    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(tensor, given[name], rtol=0, atol=0)


def test_half_precision_becomes_fp32():
    halves = {name: tensor.half() for name, tensor in network().state_dict().items()}
    assert {t.dtype for t in network(halves).state_dict().values()} == {torch.float32}


def test_tensors_that_fill_only_part_are_refused():
    given = network().state_dict()
    with pytest.raises(ArtifactError, match=r"only part of the network: \d+ of its \d+ tensors"):
        network(given, num_hidden_layers=2)


def test_tensors_of_another_shape_are_refused():
    given = network().state_dict()
    with pytest.raises(ArtifactError, match=r"another shape .*\(24,\), wanted \(32,\)"):
        network(given, intermediate_size=32)


def test_a_value_that_transformers_refuses_is_named():
    with pytest.raises(ArtifactError, match=r"transformers refuses .*num_detection_tokens"):
        config_from(YolosConfig, {"num_detection_tokens": "many"}, 3)
