"""Query fade: the weakest of the chosen queries lose their weight for the others.

A detector that chooses its queries takes the Q best places of the encoder. Where the last that is
taken and the first that is not score nearly the same, any rounding swaps them: FP16, INT8, or FP32
by another library. Through self-attention the swap reaches all other queries, and moves scores by
more than the rounding did. So the attention to a chosen query is multiplied by a weight that grows
with its score: from almost nothing for the last one to 1 from `FADE` above it on. Of two equals at
the end of the choice the others then attend to neither, whichever is taken.

The weights apply in prediction, and so in evaluation and in every exported graph, not in training.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from transformers import PreTrainedModel

FADE = 0.25
"""How far above the last chosen query, as a class logit of the encoder, one has its full weight."""

_LEAST = 1e-4  # so that its logarithm is a number


@contextmanager
def query_fade(model: PreTrainedModel) -> Iterator[None]:
    """Fade the weakest queries of one of the families around RT-DETR inside the block."""

    def hook(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        scores = model.model.enc_score_head(kwargs["inputs_embeds"]).amax(-1)
        return args, kwargs | {"encoder_attention_mask": attention_bias(scores)}

    handle = model.model.decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def attention_bias(scores: Tensor) -> Tensor:
    """Return what is added to the attention logits of each query as a key, (B, 1, 1, Q).

    Args:
        scores: The best class logit of each chosen query, (B, Q).
    """
    above_last = scores - scores.amin(-1, keepdim=True)
    weights = (above_last / FADE).clamp(_LEAST, 1)
    return weights.log()[:, None, None, :]
