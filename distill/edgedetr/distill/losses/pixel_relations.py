"""Relations between the cells of a feature level, reasoned over a few graph nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from edgedetr.distill.losses.foreground_mask import standardised

LEAK = 0.1
"""Slope of the rectifier below 0."""


class PixelRelations(nn.Module):
    """A global reasoning unit (GloRe, Chen et al., CVPR 2019) on the cells x_p of a level.

    ::

        Z0 = 1/n sum_p state(x_p) projection(x_p)^T       (2m, m): states of m nodes
        Z  = W_states rectify(W_nodes Z0 + Z0)            one layer of graph convolution
        r_p = standardised(extend(Z projection(x_p)))

    Each channel of r has mean 0 and variance 1 over the cells, like the level that it is about. The
    rectifier leaks: with few nodes all of them may come to be negative, and r to be nothing.

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
        """Return r (B, D, H, W) of the counted cells (B, H, W) of a level as large."""
        projection = self.projection(level)
        graph = self.node_states(level, projection, counted)
        graph = F.leaky_relu(self.nodes(graph) + graph, LEAK)
        return standardised(self.extended(graph, projection), counted[:, None])

    def extended(self, graph: Tensor, projection: Tensor) -> Tensor:
        """Map the reasoned nodes (B, 2m, m) back to the cells, (B, D, H, W)."""
        graph = self.states(graph.transpose(1, 2)).transpose(1, 2)
        related: Tensor = self.extend(torch.einsum("bsm,bmhw->bshw", graph, projection))
        return related

    def node_states(self, level: Tensor, projection: Tensor, counted: Tensor) -> Tensor:
        """Return what the nodes gather from the counted cells, a mean over them, (B, 2m, m)."""
        states = self.state(level) * counted[:, None]
        count = counted.sum((1, 2)).clamp(min=1)
        return torch.einsum("bshw,bmhw->bsm", states, projection) / count[:, None, None]
