"""Calibrate a torch network at the points at which its INT8 export rounds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx

from edgedetr.calib.collect import collect
from edgedetr.distill.networks.fake_quantization import Quantization, QuantizedLayer
from edgedetr.export.transforms.quantize import quantize
from edgedetr.export.transforms.simplify import simplify
from edgedetr.export.transforms.trace import trace
from edgedetr.export.transforms.trained_ranges import int8_nodes, layers_of
from edgedetr.graph.model_file import load_onnx

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from edgedetr.distill.model import Model
    from edgedetr.export.transforms.trained_ranges import Int8Node


def calibrated(
    model: Model, frames: Iterable[NDArray[np.uint8]], include: str = "", exclude: str = ""
) -> Quantization:
    """Find where a network's INT8 export rounds, and calibrate these points.

    Args:
        model: The network, on the CPU, its layers merged (see
            `edgedetr.distill.networks.reparameterize`); it is left in evaluation mode.
        frames: RGB images, uint8 (H, W, 3).
        include: See `edgedetr.export.transforms.quantize.quantize`.
        exclude: Likewise.

    Raises:
        UsageError: If an expression finds no node, or a point is in no module of the network that
            can be simulated; the message names it.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.onnx"
        trace(model, path)
        graph = simplify(load_onnx(path)).model
        onnx.save(graph, path)
        stats = collect(path, _write(frames, folder), model.spec, corrects_bias=False)
    nodes = int8_nodes(graph, quantize(graph, stats, include, exclude))
    layers, ranges = layers_of(model, nodes), _shared_ranges(nodes)
    return Quantization(
        layers=tuple(
            QuantizedLayer(
                path=layer.path,
                norm=layer.norm,
                input_step=_half(node.step),
                skip_step=_half(node.skip_step),
                input_range=ranges[node.inputs[0]],
                skip_range=ranges[node.skip] if node.skip else "",
            )
            for node, layer in zip(nodes, layers, strict=True)
        ),
        include=include,
        exclude=exclude,
        method=stats.method,
        percentile=stats.percentile,
        frames=stats.frames,
        frames_sha256=stats.frames_sha256,
    )


def _shared_ranges(nodes: Sequence[Int8Node]) -> dict[str, str]:
    """Map each rounded activation to the name of its range: what is joined shares one."""
    groups: list[set[str]] = []
    for names in [*(n.inputs for n in nodes), *((n.skip,) for n in nodes if n.skip)]:
        shared = [group for group in groups if not group.isdisjoint(names)]
        groups = [g for g in groups if g not in shared] + [set(names).union(*shared)]
    return {name: min(group) for group in groups for name in group}


def _half(step: float) -> float:
    """Round a step to FP16, so that it is the same whatever the rest of the export computes in."""
    half = float(np.float16(step))
    return half if abs(half - step) <= step / 2**10 else step


def _write(frames: Iterable[NDArray[np.uint8]], folder: Path) -> list[Path]:
    """Store frames without loss, for a calibration that reads files."""
    paths = []
    for index, frame in enumerate(frames):
        paths.append(folder / f"{index:06d}.png")
        cv2.imwrite(str(paths[-1]), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return paths
