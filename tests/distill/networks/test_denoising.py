"""Denoising queries of a part of a batch are rows of those of the whole batch."""

import pytest
import torch
from transformers.models.d_fine import modeling_d_fine

from edgedetr.distill.networks import denoising
from edgedetr.distill.networks.denoising import drawn_for_whole_batch, of_whole_batch
from edgedetr.distill.networks.whole_batch import Part, part_of
from edgedetr.distill.training.batch_parts import PassSums

SETTINGS = (3, 10, torch.nn.Embedding(4, 8), 20, 0.5, 1.0)


@pytest.fixture
def part(targets):
    """The second of two images, which has fewer objects."""
    return Part(tuple(targets), (1,), PassSums(None))


def truth(some):
    return [{"class_labels": t.labels, "boxes": t.boxes} for t in some]


def test_a_part_has_its_rows_of_what_was_drawn_for_all(targets, part):
    plain = getattr(modeling_d_fine, denoising.NAME)
    torch.manual_seed(1)
    whole = plain(truth(targets), *SETTINGS)
    torch.manual_seed(1)
    with part_of(part):
        found = of_whole_batch(plain)(truth(targets[1:]), *SETTINGS)
    for mine, theirs in zip(found[:2], whole[:2], strict=True):
        assert torch.equal(mine, theirs[1:])
    assert torch.equal(found[3]["dn_positive_idx"][0], whole[3]["dn_positive_idx"][1])
    assert found[3]["dn_num_group"] == whole[3]["dn_num_group"]


def test_a_network_draws_so_inside_the_block_alone(make_model, part):
    plain = getattr(modeling_d_fine, denoising.NAME)
    core = make_model("d_fine").network.model
    with drawn_for_whole_batch(core):
        assert getattr(modeling_d_fine, denoising.NAME) is plain
    with part_of(part), drawn_for_whole_batch(core):
        assert getattr(modeling_d_fine, denoising.NAME) is not plain
    assert getattr(modeling_d_fine, denoising.NAME) is plain
