import pytest
import torch

from edgedetr.distill.networks.finite import NotFiniteError, require_finite


def test_finite_tensors_pass():
    require_finite(logits=torch.zeros(3), boxes=torch.ones(2, 4))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_error_names_what_is_not_finite(value):
    wrong = torch.tensor([0.0, value])
    with pytest.raises(
        NotFiniteError, match="the network's boxes, corners are not finite"
    ) as caught:
        require_finite(logits=torch.zeros(2), boxes=wrong, corners=wrong)
    assert caught.value.names == "boxes, corners"
