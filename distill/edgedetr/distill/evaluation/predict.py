"""Run a torch model over a split and evaluate it, for accuracy while it trains."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from edgedetr.distill.evaluation.coco import coco_ap
from edgedetr.distill.networks.fake_quantization import simulated
from edgedetr.distill.networks.finite import require_finite
from edgedetr.runtime.postprocess import postprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgedetr.distill.data import Dataset
    from edgedetr.distill.model import Model
    from edgedetr.distill.training.network_inputs import NetworkInputs
    from edgedetr.distill.training.processes import Processes
    from edgedetr.runtime.types import Detections


def evaluate_together(
    model: Model,
    inputs: NetworkInputs,
    batch_size: int,
    processes: Processes,
    seen: Callable[[Dataset, Sequence[Detections]], None],
) -> dict[str, float]:
    """Do as `evaluate`, where several processes have the model, each on other batches.

    The batches are those of one process, and so are the figures.

    Args:
        model: The model.
        inputs: The split at network size.
        batch_size: Images a pass.
        processes: The processes of the run.
        seen: Is given, in the first one, the split and what was detected in each of its frames.

    Raises:
        NotFiniteError: If an output is not finite.
    """

    def own() -> dict[int, list[Detections]]:
        return {start: _detected(model, inputs, start, batch_size) for start in mine}

    def scored() -> dict[str, float]:
        seen(inputs.dataset, found)
        return _scored(inputs, found)

    starts = range(0, len(inputs), batch_size)
    mine = starts[processes.share.index :: processes.share.count]
    with _prediction(model):
        parts = processes.every_of(own)
    by_start = {start: found for part in parts for start, found in part.items()}
    found = [detections for start in starts for detections in by_start[start]]
    return processes.from_main(scored)


def evaluate(model: Model, inputs: NetworkInputs, batch_size: int) -> dict[str, float]:
    """Return COCO's ``ap`` and ``ap50`` of a model on a split; NaN where it holds no object.

    Raises:
        NotFiniteError: If an output is not finite.
    """
    found = detections_on(model, inputs, batch_size)
    return _scored(inputs, found)


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
    with _prediction(model):
        parts = [
            _detected(model, inputs, start, batch_size, threshold)
            for start in range(0, len(inputs), batch_size)
        ]
    return [detections for part in parts for detections in part]


@contextmanager
def _prediction(model: Model) -> Iterator[None]:
    """Let a model predict inside the block, as it does once it is exported."""
    network = model.network
    was_training = network.training
    network.eval()
    with torch.inference_mode(), simulated(network, model.quantization):
        yield
    network.train(was_training)


def _detected(
    model: Model, inputs: NetworkInputs, start: int, batch_size: int, threshold: float = 0.0
) -> list[Detections]:
    """Detect in one batch of a split."""
    device = next(model.network.parameters()).device
    items = [inputs[i] for i in range(start, min(start + batch_size, len(inputs)))]
    images = torch.stack([inputs.normalised(i.pixels) for i in items]).to(device)
    logits, boxes = model.predict(images)
    require_finite(logits=logits, boxes=boxes)
    return [
        postprocess(z, b, item.place, model.spec, threshold)
        for item, z, b in zip(items, logits.cpu().numpy(), boxes.cpu().numpy(), strict=True)
    ]


def _scored(inputs: NetworkInputs, found: list[Detections]) -> dict[str, float]:
    scores = coco_ap(inputs.dataset.truths, found, inputs.dataset.class_names)
    return {"ap": scores.ap, "ap50": scores.ap50}
