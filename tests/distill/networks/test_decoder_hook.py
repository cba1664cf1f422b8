import pytest
import torch
from torch import nn

from edgedetr.distill.networks.decoder_hook import (
    decoder_call,
    inverse_sigmoid,
    require_cells,
    self_attention_mask,
)
from edgedetr.distill.types import Queries
from edgedetr.runtime.errors import UsageError


class Decoder(nn.Module):
    """Counts its calls."""

    calls = 0

    def forward(self, **_):  # type: ignore[explicit-override]
        self.calls += 1


def test_the_keywords_of_a_call_are_captured_inside_the_block_alone():
    decoder = Decoder()
    with decoder_call(decoder) as captured:
        decoder(tokens=1, mask=2)
    decoder(tokens=3)
    assert captured == {"tokens": 1, "mask": 2}
    assert decoder.calls == 2


def test_a_block_can_end_in_front_of_the_decoder():
    decoder = Decoder()
    reached = False
    with decoder_call(decoder, stop=True) as captured:
        decoder(tokens=1)
        reached = True
    assert captured == {"tokens": 1}
    assert not reached
    assert decoder.calls == 0


def test_fewer_cells_than_queries_are_refused_with_both_numbers():
    require_cells(4, nn.Identity(), (torch.zeros(1, 4, 8),))
    with pytest.raises(UsageError, match=r"its 5 queries among .* has 4; choose a larger input"):
        require_cells(5, nn.Identity(), (torch.zeros(1, 4, 8),))


def test_a_slot_sees_the_valid_slots_of_its_group_and_itself():
    """Two groups of two slots; the second slot of the first group only fills up."""
    valid = torch.tensor([[True, False, True, True]])
    queries = Queries(torch.zeros(1, 4, 8), torch.zeros(1, 4, 4), valid, groups=2)
    mask = self_attention_mask(queries)
    assert mask.shape == (1, 1, 4, 4)
    assert (mask[0, 0] == 0).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]
    assert mask[mask != 0].isinf().all()


def test_the_logit_is_finite_at_both_ends():
    logits = inverse_sigmoid(torch.tensor([0.0, 0.5, 0.75, 1.0]))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1:3], torch.tensor([0.0, torch.tensor(3.0).log().item()]))
