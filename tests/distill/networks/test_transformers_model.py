import pytest
import torch
from transformers import YolosConfig, YolosForObjectDetection

from edgedetr.distill.networks import transformers_model
from edgedetr.distill.networks.transformers_model import bounded, config_from, network_from
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


@pytest.mark.parametrize("given", [None, {}])
@pytest.mark.parametrize(
    "options", [{"hidden_act": "__import__('os')"}, {"num_attention_heads": 0}]
)
def test_what_no_network_can_be_made_of_is_one_line(options, given):
    with pytest.raises(ArtifactError, match=r"cannot make a Yolos\w+ of its config \(") as caught:
        network(given, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, -5])
def test_no_queries_are_refused(count):
    with pytest.raises(ArtifactError, match=f"num_detection_tokens = {count}, wanted 1 or more"):
        network(num_detection_tokens=count)


def test_giant_inputs_are_refused():
    with pytest.raises(ArtifactError, match=r"image_size = .*1000000.*, wanted at most 16384"):
        network(image_size=[32, 10**6])


@pytest.mark.parametrize("options", [{"hidden_size": 10**7}, {"num_detection_tokens": 10**9}])
def test_a_network_that_dwarfs_its_weights_is_not_made(options):
    given = network().state_dict()
    with pytest.raises(ArtifactError, match=r"asks for a network of \d+ parameters and more"):
        network(given, **options)


def test_a_network_has_so_many_tensors_and_no_more(monkeypatch):
    monkeypatch.setattr(transformers_model, "MOST_TENSORS", 30)
    given = network().state_dict()
    with pytest.raises(ArtifactError, match="asks for a network"):
        network(given, num_hidden_layers=10**6)


def test_the_bound_ends_with_its_block():
    with bounded(1):
        torch.nn.Linear(10, 10)
    torch.nn.Linear(1000, 1001)
    with pytest.raises(ArtifactError, match="its weights are 1;"), bounded(1):
        torch.nn.Linear(1000, 1001)
