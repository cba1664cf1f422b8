"""Relations between the cells of a feature level, reasoned over a few graph nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgedetr.distill.cell_weights import standardised


class PixelRelations(nn.Module):
    """A global reasoning unit (GloRe, Chen et al., CVPR 2019) on the cells x_p of a level.

    ::

        Z0 = 1/n sum_p state(x_p) projection(x_p)^T       (2m, m): states of m nodes
        Z  = W_states relu(W_nodes Z0 + Z0)               one layer of graph convolution
        out_p = x_p + standardised(extend(Z projection(x_p)))

    What is added has mean 0 and variance 1 over the cells in each channel, with no learnt scale: it
    can neither vanish nor become the same everywhere.

    Args:
        width: Channels D of the level.
        nodes: Nodes m.
    """

    def __init__(self, width: int, nodes: int) -> None:
        super().__init__()
        self.state = nn.Conv2d(width, 2 * nodes, 1)
        self.projection = nn.Conv2d(width, nodes, 1)
        self.nodes = nn.Linear(nodes, nodes)
        self.states = nn.Linear(2 * nodes, 2 * nodes, bias=False)
        self.extend = nn.Conv2d(2 * nodes, width, 1, bias=False)

    @override
    def forward(self, level: Tensor, counted: Tensor) -> Tensor:
        """Relate the counted cells (B, H, W) of a level (B, D, H, W); keep its shape."""
        projection = self.projection(level)
        graph = self.node_states(level, projection, counted)
        graph = (self.nodes(graph) + graph).relu()
        graph = self.states(graph.transpose(1, 2)).transpose(1, 2)
        related = self.extend(torch.einsum("bsm,bmhw->bshw", graph, projection))
        return level + standardised(related, counted[:, None])

    def node_states(self, level: Tensor, projection: Tensor, counted: Tensor) -> Tensor:
        """Return what the nodes gather from the counted cells, a mean over them, (B, 2m, m)."""
        states = self.state(level) * counted[:, None]
        count = counted.sum((1, 2)).clamp(min=1)
        return torch.einsum("bshw,bmhw->bsm", states, projection) / count[:, None, None]
