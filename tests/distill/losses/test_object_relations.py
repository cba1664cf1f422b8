import math

import pytest
import torch

from edgedetr.distill.losses.object_relations import (
    MOST,
    ObjectRelations,
    RelationFilter,
    objects,
    pair_geometry,
)
from edgedetr.distill.types import Targets


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_geometry_of_a_pair():
    boxes = torch.tensor([[[0.2, 0.4, 0.1, 0.2], [0.5, 0.3, 0.2, 0.1]]])
    geometry = pair_geometry(boxes)[0]
    expect = [math.log(1 + 3), -math.log(1 + 0.5), math.log(2), -math.log(2)]
    torch.testing.assert_close(geometry[0, 1], torch.tensor(expect))
    back = [-math.log(1 + 1.5), math.log(1 + 1), -math.log(2), math.log(2)]
    torch.testing.assert_close(geometry[1, 0], torch.tensor(back))
    assert geometry[0, 0].abs().max() == 0


def test_the_filter_is_a_network_over_both_objects_and_their_geometry():
    """Its first layer is split in three; joined it is one linear layer over the concatenation."""
    kept = RelationFilter(5)
    features, boxes = noise(1, 3, 5), torch.rand(1, 3, 4) * 0.5 + 0.1
    one = features[:, :, None].expand(1, 3, 3, 5)
    joined = torch.cat([one, one.transpose(1, 2), pair_geometry(boxes)], -1)
    weight = torch.cat([kept.one.weight, kept.other.weight, kept.geometry.weight], 1)
    hidden = torch.nn.functional.linear(joined, weight, kept.one.bias).relu()
    expect = kept.last(hidden)[..., 0].sigmoid()
    torch.testing.assert_close(kept(features, boxes), expect)


THREE = (0.3, 0.4, 0.2, 0.3), (0.7, 0.5, 0.3, 0.4), (0.5, 0.7, 0.3, 0.2)


def test_relations_are_a_filtered_softmax_over_the_other_objects_of_the_image(make_targets):
    found = objects([make_targets(*THREE), make_targets(*THREE[:2])])
    module, features = ObjectRelations(4), noise(2, 3, 36)
    weights = module.relations(features, found)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert weights[1, :2].tolist() == [[0, 1, 0], [1, 0, 0]]  # slot 2 is no object
    query, key = module.theta(features[0]), module.phi(features[0])
    w = module.filter(features, found.boxes)[0]
    scores = [w[0, j].item() * (query[0] @ key[j]).item() / 2 for j in (1, 2)]
    expect = math.exp(scores[0]) / sum(math.exp(s) for s in scores)
    assert weights[0, 0].tolist() == pytest.approx([0, expect, 1 - expect], rel=1e-4)


def test_what_objects_gather_is_standardised_over_the_related_objects(make_targets):
    module = ObjectRelations(2)
    found = objects([make_targets(*THREE), make_targets(*THREE[:1])])
    features = 10 * noise(2, 3, 18)  # large beside the 1e-6 that is added to variances
    told = module(features, found)[0]
    assert told.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(told.var(0, unbiased=False), torch.ones(18), rtol=1e-2, atol=0)
    gathered = module.out(module.relations(features, found) @ module.g(features))[0]
    centred = gathered - gathered.mean(0)
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(told, centred, 0), torch.ones(18)
    )


def test_object_features_are_pooled_from_their_boxes(make_targets):
    """On a ramp x, an object's bins are the ramp's values at a third of its width each."""
    ramp = torch.arange(12.0).repeat(1, 1, 12, 1)
    found = objects([make_targets((0.5, 0.5, 0.5, 0.5))])  # cells 3 to 9, bins of 2 cells
    features = found.features(ramp).reshape(3, 3)
    torch.testing.assert_close(features, torch.tensor([3.5, 5.5, 7.5]).repeat(3, 1))


def test_of_a_crowd_a_random_hundred_is_taken():
    boxes = torch.rand(150, 4, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    crowd = Targets(torch.zeros(150, dtype=torch.long), boxes, torch.zeros(0, 4))
    torch.manual_seed(0)
    one, two = objects([crowd]), objects([crowd])
    assert one.boxes.shape == (1, MOST, 4)
    assert one.valid.all()
    assert not torch.equal(one.boxes, two.boxes)
    assert len({tuple(b) for b in one.boxes[0].tolist()}) == MOST


def test_relations_learn_which_objects_tell_an_object():
    """Each object has one like it in its image, besides two others that are far away."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(16, 2, 9 * 4, generator=generator)
    features = kinds.repeat_interleave(2, 1)
    near = torch.tensor([[0.2, 0.5], [0.25, 0.5], [0.8, 0.5], [0.85, 0.5]])
    boxes = torch.cat([near, torch.full((4, 2), 0.1)], 1)
    found = objects(
        [Targets(torch.zeros(4, dtype=torch.long), boxes, torch.zeros(0, 4)) for _ in range(16)]
    )
    torch.manual_seed(0)
    module = ObjectRelations(4)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def told():
        return (module(features, found) - found.standardised(features)).square().mean()

    first = told().item()
    for _ in range(150):
        optimizer.zero_grad()
        told().backward()
        optimizer.step()
    assert told().item() < 0.7 * first
    weights = module.relations(features, found)
    apart = [weights[:, i, i ^ 1].mean().item() for i in range(4)]
    assert min(apart) > 0.4  # of three others, one third each at random
