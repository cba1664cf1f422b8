"""Read and replace the query selections of a PyTorch network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from edgedetr.export.verify.query_ties import SelectionError  # noqa: E402
from edgedetr.export.verify.runners.torch import TopKSelections  # noqa: E402


@pytest.mark.parametrize("positional", [True, False])
def test_every_way_of_calling_topk_is_seen(positional):
    x = torch.tensor([[1.0, 5.0], [4.0, 2.0], [3.0, 3.0]])
    with TopKSelections() as selections:
        first = x.topk(2, 0) if positional else torch.topk(x, 2, dim=0)
        x.topk(1)
    assert [c.indices.tolist() for c in selections.made] == [[[1, 0], [2, 2]], [[1], [0], [0]]]
    assert first.values.tolist() == [[4, 5], [3, 3]]
    other = [replace(selections.made[0], indices=np.array([[0, 1], [0, 1]])), selections.made[1]]
    with TopKSelections(other):
        again = x.topk(2, 0) if positional else torch.topk(x, 2, dim=0)
        last = x.topk(1)
    assert again.values.tolist() == [[1, 2], [1, 2]]
    assert last.values.tolist() == [[5], [4], [3]]
    with TopKSelections(other), pytest.raises(SelectionError):
        x.topk(1)
