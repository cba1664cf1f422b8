"""DRKD's relations as its paper and its authors' code have them, beside our redesign of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.losses.object_relations import BINS, RelationFilter
from edgedetr.distill.losses.pixel_relations import PixelRelations
from edgedetr.distill.networks import whole_batch

if TYPE_CHECKING:
    from edgedetr.distill.losses.object_relations import Objects


class PaperPixelRelations(PixelRelations):
    """The graph unit of the authors' code: ``phi(x) = x + BN(extend(Z projection(x)))``.

    Nodes gather a sum over the cells, and what is negative in them is cut off.

    Args:
        width: Channels D of the level.
        nodes: Nodes m.
    """

    def __init__(self, width: int, nodes: int) -> None:
        super().__init__(width, nodes)
        self.norm = nn.BatchNorm2d(width, eps=1e-4)

    @override
    def forward(self, level: Tensor, counted: Tensor) -> Tensor:
        """Return phi (B, D, H, W) of the counted cells (B, H, W) of a level as large."""
        projection = self.projection(level)
        count = counted.sum((1, 2)).clamp(min=1)[:, None, None]
        graph = self.node_states(level, projection, counted) * count
        graph = F.relu(self.nodes(graph) + graph)
        related: Tensor = self.norm(self.extended(graph, projection))
        return level + related


class PaperObjectRelations(nn.Module):
    """The paper's equation: ``psi_ij = softmax_j(w_ij * g1(x_i).g2(x_j))``, itself among the j.

    The filter w is that of `ObjectRelations`; the code's is made anew at each call.

    Args:
        width: Channels D of the level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        features = width * BINS * BINS
        self.one = nn.Linear(features, width)
        self.other = nn.Linear(features, width)
        self.filter = RelationFilter(features)

    @override
    def forward(self, features: Tensor, objects: Objects) -> Tensor:
        """Return psi (B, N, N) of the objects' features (B, N, 9 D); 0 for slots that fill up."""
        scores = self.one(features) @ self.other(features).transpose(1, 2)
        scores = self.filter(features, objects.boxes) * scores
        known = objects.valid[:, :, None] & objects.valid[:, None]
        return F.softmax(scores.masked_fill(~known, -1e30), dim=-1) * known


def relation_difference(student: Tensor, teacher: Tensor, objects: Objects) -> Tensor:
    """Return ``sum_ij (psi_T - psi_S)^2``, a mean over the images with two objects or more."""
    several = objects.related.any(1)
    by_image = (student - teacher).square().sum((1, 2))
    return (by_image * several).sum() / whole_batch.total(several.sum()).clamp(min=1)
