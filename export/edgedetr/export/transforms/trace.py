"""Trace a network to an ONNX graph that runs in a vehicle: opset 17, static batch.

Opset 17 is the first with LayerNormalization as one node. Node names keep the scopes of the network
(``/backbone/``, ``/encoder/``, ``/decoder/``), which tell later stages where a node belongs.
"""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from edgedetr.distill.networks.reparameterize import drop_absorbed_scales, reparameterize
from edgedetr.export.transforms.deformable_attention import Form, sampled_by
from edgedetr.export.transforms.roi_align import regions_pooled_by
from edgedetr.graph.model_file import load_onnx
from edgedetr.graph.sampling_plugin import define_plugin
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from edgedetr.distill.model import Model

OPSET = 17
LEAST_SIDE_PX = 32
"""Backbones halve the image five times."""


def trace(
    model: Model,
    path: str | os.PathLike[str],
    deformable_attention: Form = "gather",
    batch: int = 1,
) -> None:
    """Write a network as torch traces it: layers merged, a static batch, no metadata.

    The tracer warns about every size that it fixes, which is what a static graph wants.

    Raises:
        ArtifactError: If the network cannot compute anything at the size of its spec.
    """
    path = Path(path)
    spec, network = model.spec, copy.deepcopy(model.network).eval()
    reparameterize(network)
    drop_absorbed_scales(network)
    images = torch.zeros(batch, 3, *spec.input_hw)
    sampling, pooling = (
        sampled_by(deformable_attention, network),
        regions_pooled_by(deformable_attention),
    )
    sized, traced = _size_named(spec.input_hw, is_foreign=bool(model.architecture)), _Constants()
    with sized, warnings.catch_warnings(), torch.inference_mode(), sampling, pooling, traced:
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        warnings.filterwarnings("ignore", "Exporting aten::index operator", UserWarning)
        torch.onnx.export(
            _Answers(replace(model, network=network)).eval(),
            (images,),
            str(path),
            input_names=[spec.input_name],
            output_names=[spec.logits_name, spec.boxes_name],
            opset_version=OPSET,
            dynamo=False,
        )
    if deformable_attention == "plugin":
        traced_model = load_onnx(path)
        define_plugin(traced_model)
        onnx.save(traced_model, path)


@contextmanager
def _size_named(input_hw: tuple[int, int], *, is_foreign: bool) -> Iterator[None]:
    """Say at which size a network cannot run, where torch says why; or why a foreign one cannot."""
    height, width = input_hw
    if min(input_hw) < LEAST_SIDE_PX:
        raise ArtifactError(
            f"the network reads {height}x{width} pixels; wanted {LEAST_SIDE_PX} or more a side: "
            "train it with a larger student.input_hw"
        )
    try:
        yield
    except RuntimeError as error:
        if not any(side % LEAST_SIDE_PX for side in input_hw) and not is_foreign:
            raise
        help_ = "import it again, with its own config.json, or at another --input-hw"
        if not is_foreign:
            help_ = "train it with a student.input_hw of multiples of 32"
        reason = str(error).splitlines()[0]
        raise ArtifactError(
            f"the network cannot run at {height}x{width} pixels: {reason}; {help_}"
        ) from error


class _Constants(TorchFunctionMode):
    """Traces as constants what is the same for every image, and what torch's exporter fails at.

    It makes every ``linspace`` FP64, and has no operator for a bicubic resize with antialiasing,
    which vision transformers have for their position embeddings, and for nothing else.
    """

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.linspace:
            args = (float(args[0]), float(args[1]), int(args[2]))
        elif func is not functional.interpolate or kwargs.get("mode") != "bicubic":
            return func(*args, **kwargs)
        return torch.from_numpy(func(*args, **kwargs).numpy())


class _Answers(nn.Module):
    """A network that takes images and gives logits and boxes, nothing else."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self._model = model

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self._model.predict(images)
