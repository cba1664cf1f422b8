from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgedetr.distill.losses.decoder_losses import DecoderLossSettings, decoder_losses
from edgedetr.distill.losses.feature_levels import LevelPair
from edgedetr.distill.losses.foreground_mask import cell_weights, standardised
from edgedetr.distill.losses.object_relations import ObjectRelations, objects
from edgedetr.distill.losses.pixel_relations import PixelRelations
from edgedetr.distill.losses.semantic_imitation import SemanticImitation
from edgedetr.distill.methods import clock, fgd
from edgedetr.distill.methods.drkd import object_terms, pixel_terms
from edgedetr.distill.networks.precision import in_float32
from edgedetr.distill.types import DetrOutputs

GRID = (12, 39)
"""Stride 8 of an input of 96x312, whose 468 cells were too many for FP16."""


def test_arguments_are_cast_wherever_they_lie_and_autocast_is_off():
    seen = []

    @in_float32
    def loss(pair, levels, named, labels):
        seen.append((pair.student.dtype, levels[0].dtype, named["x"].dtype, labels.dtype))
        return levels[0] @ levels[0]

    half = torch.ones(2, 2, dtype=torch.bfloat16)
    pair = LevelPair(half, half, half, half)
    with torch.autocast("cpu", torch.bfloat16):
        out = loss(pair, [half], {"x": half}, torch.tensor([1]))
    assert out.dtype == torch.float32
    assert seen == [(torch.float32, torch.float32, torch.float32, torch.int64)]


@pytest.fixture
def pair(targets):
    """A level whose sums leave FP16's range and whose variances are small beside its means."""
    generator = torch.Generator().manual_seed(0)
    mine, theirs = ((30 + torch.rand(2, 8, *GRID, generator=generator)).half() for _ in range(2))
    mask = torch.ones(2, *GRID, dtype=torch.bool)
    return LevelPair(mine, theirs, *cell_weights(targets, mask))


LOSSES = {
    "standardised": lambda pair, _: standardised(pair.student, pair.counted[:, None]),
    "lcmd": lambda pair, _: clock.lcmd([pair], clock.Settings()),
    "focal": lambda pair, _: fgd.focal_terms(pair, 0.5)["foreground"],
    "global": lambda pair, _: fgd.global_term(pair, fgd.ContextBlock(8), fgd.ContextBlock(8)),
    "pixel": lambda pair, _: pixel_terms(pair, PixelRelations(8, 4))[0],
    "objects": lambda pair, t: object_terms(pair, objects(t), ObjectRelations(8))[0],
    "regions": lambda pair, _: SemanticImitation(8, 6)(
        [pair.student], [torch.tensor([[0.1, 0.2, 0.5, 0.9]])] * 2, pair.teacher[:2, :6, :7, :7]
    ),
    "answers": lambda pair, _: decoder_losses(*answers(pair), DecoderLossSettings())["class"],
}


def answers(pair) -> tuple[DetrOutputs, DetrOutputs, Tensor]:
    """Answers of two layers to three queries, read off a level."""
    both = [
        DetrOutputs(
            x[0, :6, :2, :3].unflatten(0, (2, 3)).transpose(2, 3)[..., :2] - 30,
            x[1, :6, :2, :3].unflatten(0, (2, 3)).transpose(2, 3).repeat(1, 1, 1, 2) / 100,
            x,
        )
        for x in (pair.student, pair.teacher)
    ]
    return both[0], both[1], torch.ones(3, 3, dtype=torch.bool)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_under_autocast_are_those_of_float32(name, pair, targets):
    def value(pair):
        torch.manual_seed(0)
        return LOSSES[name](pair, targets)

    exact = value(replace(pair, student=pair.student.float(), teacher=pair.teacher.float()))
    with torch.autocast("cpu", torch.float16):
        found = value(pair)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=1e-5)
