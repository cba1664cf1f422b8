import torch

from edgedetr.distill.losses.pixel_relations import PixelRelations


def test_nodes_gather_a_mean_over_cells():
    """One channel with cells 1 and 3, one node: projection 2 x, states x and -x.

    Z0 is the mean of x * 2 x and -x * 2 x: (1 * 2 + 3 * 6) / 2 = 10 and -10.
    """
    unit = PixelRelations(1, 1)
    for layer in (unit.state, unit.projection):
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    unit.state.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    unit.projection.weight.data.fill_(2.0)
    level = torch.tensor([[[[1.0, 3.0]]]])
    projection, counted = unit.projection(level), torch.ones(1, 1, 2, dtype=torch.bool)
    graph = unit.node_states(level, projection, counted)
    torch.testing.assert_close(graph, torch.tensor([[[10.0], [-10.0]]]))
    twice = level.repeat(1, 1, 5, 1)
    again = unit.node_states(twice, unit.projection(twice), torch.ones(1, 5, 2, dtype=torch.bool))
    torch.testing.assert_close(again, graph)  # the size of the level does not matter


def test_related_cells_of_a_hand_worked_level():
    """The unit above, with W_nodes 0, W_states the identity and an extension (1, 0).

    Z is (10, -1), leaking 0.1 of what is negative, extended cells are 10 * 2 x = 20 and 60,
    standardised -1 and 1.
    """
    unit = PixelRelations(1, 1)
    for layer in (unit.state, unit.projection, unit.nodes):
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    unit.state.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    unit.projection.weight.data.fill_(2.0)
    unit.nodes.weight.data.zero_()
    unit.states.weight.data = torch.eye(2)
    unit.extend.weight.data = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    level = torch.tensor([[[[1.0, 3.0]]]])
    out = unit(level, torch.ones(1, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(out, torch.tensor([[[[-1.0, 1.0]]]]), atol=1e-4, rtol=0)
