"""Run a model over camera frames and measure the range of every activation that INT8 may need.

One pass, one frame at a time: memory depends on the model's size and not on the number of frames.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
from tqdm import tqdm

from edgedetr.calib.bias_correction import mean_shifts
from edgedetr.calib.frames import choose_frames
from edgedetr.calib.histogram import Histogram
from edgedetr.calib.placement import calibration_tensors
from edgedetr.calib.scales import amax_from_histogram, ends_from_histogram
from edgedetr.calib.stats import CalibrationStats, TensorRange
from edgedetr.calib.value_ranges import RangeProbe
from edgedetr.graph.checksum import model_sha256
from edgedetr.graph.contract import check_contract
from edgedetr.graph.exact import EIGHT_BITS, coarsest_precision, exact_session
from edgedetr.graph.model_file import embedded_spec, load_onnx
from edgedetr.graph.subgraph import ending_at
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.images import read_image
from edgedetr.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import onnxruntime
    from numpy.typing import NDArray

    from edgedetr.calib.frame_variety import Variety
    from edgedetr.calib.methods import Method
    from edgedetr.runtime.spec import ModelSpec

RANGE_FRAMES = 16
"""Frames on which the magnitudes of all tensors are measured."""

_CHUNK_BYTES = 256 << 20
"""Activation memory that one run of the network may return."""


@dataclass(frozen=True, eq=False)
class _Chunk:
    """A part of the network that ends at some of the wanted tensors."""

    session: onnxruntime.InferenceSession
    tensors: list[str]


def collect(  # noqa: PLR0913 - one argument per choice
    path: str | os.PathLike[str],
    images: Sequence[Path],
    spec: ModelSpec | None = None,
    method: Method = "mse",
    percentile: float = 99.99,
    variety: Variety | None = None,
    *,
    corrects_bias: bool = True,
) -> CalibrationStats:
    """Calibrate a model.

    Args:
        path: A float32 ONNX model.
        images: The frames, in order; each is read once.
        spec: The spec of a model without one.
        method: How to choose each amax, see `edgedetr.calib.scales`.
        percentile: The share in per cent that the method ``percentile`` keeps.
        variety: Counts the frames that differ.
        corrects_bias: Measure what INT8 shifts the mean of each channel by, on some of the frames.

    Raises:
        ArtifactError: If the model is damaged, does not fit its spec or has nothing to quantize.
        DataError: If an image cannot be read or makes an activation that is not finite.
    """
    path = Path(path)
    model = load_onnx(path)
    spec = spec or embedded_spec(model, path)
    batch = check_contract(model, spec, path)
    tensors = _tensors(model, path)
    histograms = {name: Histogram() for name in tensors}
    chunks = _chunks(model, tensors, spec.input_name, path)
    probe, probed = RangeProbe(model), set(choose_frames(images, RANGE_FRAMES))
    digest, preprocess = hashlib.sha256(), Preprocessor(spec)
    feed = np.empty((batch, 3, *spec.input_hw), np.float32)
    for image_path in tqdm(images, desc="calibrating", unit="frame", disable=None):
        image = read_image(image_path)
        digest.update(image.tobytes())
        if variety:
            variety.add(image)
        preprocess(image, feed[0])
        feed[1:] = feed[0]
        _add_frame(chunks, (spec.input_name, feed), histograms, image_path)
        if image_path in probed:
            probe.add(spec.input_name, feed)
    del chunks
    ranges = _ranges(histograms, method, percentile)
    shifts = mean_shifts(model, ranges, spec, images, batch) if corrects_bias else {}
    return CalibrationStats(
        model=path.name,
        model_sha256=model_sha256(path),
        spec=spec,
        method=method,
        percentile=percentile,
        frames=len(images),
        frames_sha256=digest.hexdigest(),
        ranges=ranges,
        magnitudes={name: found.magnitude for name, found in probe.ranges().items()},
        shifts=shifts,
    )


def _tensors(model: onnx.ModelProto, path: Path) -> list[str]:
    """Name what is calibrated; refuse a model in which that is nothing."""
    if coarsest_precision(model) in EIGHT_BITS:
        raise ArtifactError(f"{path} is quantized already; calibrate the float32 model")
    tensors = calibration_tensors(model)
    if not tensors:
        raise ArtifactError(f"{path} has no convolution with float32 weights; nothing to calibrate")
    return tensors


def _chunks(model: onnx.ModelProto, tensors: Sequence[str], given: str, path: Path) -> list[_Chunk]:
    """Open the parts of the network."""
    parts = _split(model, tensors, given)
    return [_Chunk(exact_session(ending_at(model, p), str(path)), p) for p in parts]


def _ranges(
    histograms: Mapping[str, Histogram], method: Method, percentile: float
) -> tuple[TensorRange, ...]:
    return tuple(
        TensorRange(
            name,
            amax_from_histogram(histogram, method, percentile),
            histogram.max,
            *ends_from_histogram(histogram, method, percentile),
        )
        for name, histogram in histograms.items()
    )


def _add_frame(
    chunks: Sequence[_Chunk],
    feed: tuple[str, NDArray[np.float32]],
    histograms: dict[str, Histogram],
    image_path: Path,
) -> None:
    """Run the parts of the network on an input, named, and count their tensors."""
    given, images = feed
    if given in histograms:
        histograms[given].add(images)
    for chunk in chunks:
        values = chunk.session.run(chunk.tensors, {given: images})
        name = ""
        try:
            for name in chunk.tensors:
                histograms[name].add(cast("NDArray[np.float32]", values.pop(0)))
        except ValueError as error:
            raise DataError(
                f"{image_path}: the activation {name} holds NaN or infinity; leave the image out "
                "or export the model again"
            ) from error


def _split(model: onnx.ModelProto, tensors: Sequence[str], given: str) -> list[list[str]]:
    """Cut the list of tensors where their sizes add up to `_CHUNK_BYTES`.

    The tensor ``given`` is the network's input and needs no run. One whose size is not known
    beforehand counts as the largest that is.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        sizes[value.name] = 4 * int(np.prod([max(d.dim_value, 1) for d in dims]))
    largest = max((sizes[name] for name in tensors if name in sizes), default=0)
    chunks: list[list[str]] = [[]]
    used = 0
    for name in (t for t in tensors if t != given):
        size = sizes.get(name, largest)
        if used + size > _CHUNK_BYTES and chunks[-1]:
            chunks.append([])
            used = 0
        chunks[-1].append(name)
        used += size
    return [names for names in chunks if names]
