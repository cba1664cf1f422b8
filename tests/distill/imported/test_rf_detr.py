from typing import Any

import torch

from edgedetr.distill.imported import rf_detr
from edgedetr.distill.weights.importing import read_model


def test_only_the_first_group_of_queries_detects(foreign):
    model = read_model(foreign("rf_detr"))
    config: Any = model.network.config
    assert config.group_detr == 2
    with torch.no_grad():
        logits, _ = rf_detr.predict(model.network, torch.rand(1, 3, 64, 96))
    assert logits.shape == (1, 6, 5)
