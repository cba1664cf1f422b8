"""Write an ONNX file as a strongly typed FP16 graph; see `edgedetr.export.transforms.halve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgedetr.calib.collect import RANGE_FRAMES
from edgedetr.calib.frames import choose_frames
from edgedetr.export.transforms.halve import prepared
from edgedetr.graph.checksum import model_files
from edgedetr.graph.lint import refuse_broken
from edgedetr.graph.metadata import set_metadata
from edgedetr.graph.model_file import check_onnx_name, load_onnx
from edgedetr.graph.requirements import check_float, check_operators, check_static, spec_of
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import atomic_path, is_same_file
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import versions_of, write_manifest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgedetr.export.search.fp32_blocks import Request
    from edgedetr.export.transforms.halve import HalfShare
    from edgedetr.runtime.spec import ModelSpec

VERSIONS = ("edgedetr", "numpy", "onnx", "onnxruntime")


def export_fp16(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    spec: ModelSpec | None = None,
    frames: Iterable[NDArray[np.uint8]] | None = None,
    command: str = "edgedetr export fp16",
    request: Request | None = None,
) -> HalfShare:
    """Write a float32 ONNX file as typed FP16, with its manifest.

    Args:
        path: A float32 ONNX model.
        output: Where to write.
        spec: The spec of a model that holds none.
        frames: RGB images, uint8 (H, W, 3), on which ranges are measured; generated when None.
        command: What made it, for the manifest.
        request: Limits to hold by keeping blocks in FP32, and images to measure on; rules and
            ranges alone decide when None.

    Raises:
        ArtifactError: If the model is damaged, has operators that ONNX does not define or free
            sizes, or does not fit its spec.
        DataError: If the model finds nothing in the images of the request.
        GateError: If TensorRT would break the graph, or the limits do not hold.
        UsageError: If ``output`` is ``path`` or does not end in ``.onnx``.
    """
    path = Path(path)
    output = Path(output)
    check_onnx_name(output)
    if is_same_file(output, path):
        raise UsageError(f"{output} is the input of the same command; choose another --output")
    model = load_onnx(path)
    spec = spec_of(model, path, spec)
    check_float(model, path)
    check_operators(model, path)
    check_static(model, spec, path)
    refuse_broken(model, path.name)
    halving = prepared(model, spec, frames)
    kept = {}
    if request is not None:
        from edgedetr.export.search.fp32_blocks import choose_blocks

        kept = choose_blocks(halving, spec, request)
    half, share = halving.typed(kept)
    versions = versions_of(VERSIONS)
    set_metadata(half, spec, versions)
    with atomic_path(output) as temporary:
        onnx.save(half, temporary)
    write_manifest(
        output,
        kind="fp16",
        command=command,
        spec=spec,
        versions=versions,
        parents=model_files(path),
        summary=share.describe(),
    )
    return share


def frames_of(folder: str | os.PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """Read `RANGE_FRAMES` images of a folder, evenly spread.

    Raises:
        DataError: If there is none, or one cannot be read.
    """
    return read_spread(list_images(Path(folder)))


def read_spread(images: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """Read `RANGE_FRAMES` images, evenly spread; raises DataError where one cannot be read."""
    return map(read_image, choose_frames(images, RANGE_FRAMES))
