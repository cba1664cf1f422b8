"""Run a torch model over a split and evaluate it, for accuracy while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.networks.fake_quantization import simulated
from edgedetr.distill.networks.finite import require_finite
from edgedetr.runtime.postprocess import postprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedetr.distill.data import Dataset
    from edgedetr.distill.model import Model
    from edgedetr.distill.training.network_inputs import NetworkInputs
    from edgedetr.runtime.types import Detections


def evaluate(
    model: Model,
    inputs: NetworkInputs,
    batch_size: int,
    seen: Callable[[Dataset, Sequence[Detections]], None] | None = None,
) -> dict[str, float]:
    """Return COCO's ``ap`` and ``ap50`` of a model on a split; NaN where it holds no object.

    Args:
        model: The model.
        inputs: The split at network size.
        batch_size: Images a pass.
        seen: Is given the split and what was detected in each of its frames.

    Raises:
        NotFiniteError: If an output is not finite.
    """
    found = detections_on(model, inputs, batch_size)
    if seen is not None:
        seen(inputs.dataset, found)
    scores = coco_ap(inputs.dataset.truths, found, inputs.dataset.class_names)
    return {"ap": scores.ap, "ap50": scores.ap50}


def detections_on(
    model: Model, inputs: NetworkInputs, batch_size: int, threshold: float = 0.0
) -> list[Detections]:
    """Detect in every frame of a split, in source pixels.

    Args:
        model: Its classes come in its own order, or in that of `Model.with_classes`; its network is
            left in the mode it was in. One that was trained for INT8 computes as in INT8.
        inputs: The split at network size.
        batch_size: Images a pass.
        threshold: Lowest score of a detection.

    Raises:
        NotFiniteError: If an output is not finite.
    """
    network = model.network
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    found: list[Detections] = []
    with torch.inference_mode(), simulated(network, model.quantization):
        for start in range(0, len(inputs), batch_size):
            items = [inputs[i] for i in range(start, min(start + batch_size, len(inputs)))]
            images = torch.stack([inputs.normalised(i.pixels) for i in items]).to(device)
            logits, boxes = model.predict(images)
            require_finite(logits=logits, boxes=boxes)
            for item, z, b in zip(items, logits.cpu().numpy(), boxes.cpu().numpy(), strict=True):
                found.append(postprocess(z, b, item.place, model.spec, threshold))
    network.train(was_training)
    return found
