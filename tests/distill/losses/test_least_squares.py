import pytest
import torch
from torch import nn

from edgedetr.distill.losses.least_squares import LeastSquares


def fitted(inputs, outputs, weights):
    squares, adapter = LeastSquares(), nn.Conv2d(inputs.shape[1], outputs.shape[1], 1)
    squares.add(inputs, outputs, weights)
    with torch.no_grad():
        squares.solve(adapter)
    return adapter


def test_least_squares_by_hand():
    """y = 2 x + 1 on the cells that count; the third would bend it."""
    x = torch.tensor([[[[-1.0, 1.0, 9.0]]]])
    y = torch.tensor([[[[-1.0, 3.0, 0.0]]]])
    adapter = fitted(x, y, torch.tensor([[[1.0, 1.0, 0.0]]]))
    assert adapter.weight.item() == pytest.approx(2, rel=2e-3)  # the ridge takes a thousandth
    assert adapter.bias.item() == pytest.approx(1, rel=2e-3)


def test_a_linear_map_is_found_and_cells_come_in_parts():
    torch.manual_seed(0)
    true = nn.Conv2d(4, 6, 1)
    squares, adapter = LeastSquares(), nn.Conv2d(4, 6, 1)
    for _ in range(2):
        x = torch.randn(2, 4, 5, 7) + 3
        squares.add(x, true(x), torch.rand(2, 5, 7))
    with torch.no_grad():
        squares.solve(adapter)
    fresh = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(adapter(fresh), true(fresh), atol=0.05, rtol=0.05)


def test_an_adapter_stays_where_no_cell_counts():
    x = torch.ones(1, 2, 2, 2)
    adapter = fitted(x, x, torch.zeros(1, 2, 2))
    assert adapter.weight.isfinite().all()
    assert adapter.weight.abs().sum() > 0
