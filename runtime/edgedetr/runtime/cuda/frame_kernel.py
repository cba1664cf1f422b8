"""Preprocess frames on the GPU, to the same bits as `edgedetr.runtime.preprocess` on the CPU."""

from __future__ import annotations

from importlib.resources import files
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.nvrtc import compile_cuda
from edgedetr.runtime.cuda.resize_tables import area_table, bilinear_table, whole_area_table
from edgedetr.runtime.preprocess import averages_areas, normalisation_tables, placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

BLOCK = (32, 8, 1)
"""Threads of a block, across and down."""


class FrameKernel:
    """Writes frames into a network's input on the device.

    What depends on the size of the frames is made for the first one and again when it changes.
    """

    def __init__(self, drv: Any, spec: ModelSpec, out: int, compute_capability: str) -> None:  # noqa: ANN401
        """Compile the kernels; the device's context must be current, as for every other call.

        Args:
            drv: The module ``pycuda.driver``.
            spec: How to resize and normalise.
            out: Address of the input on the device, float32 (1, 3, H, W).
            compute_capability: Of the device, for example ``8.7``.

        Raises:
            CompileError: If that is not possible here.
        """
        module = drv.module_from_buffer(compile_cuda(kernel_source(), compute_capability))
        self._drv, self._spec, self._out = drv, spec, out
        self._functions = {}
        for name, parameters in (("bilinear", "PPPPPiiiiii"), ("area", "PPPPPPPPPfiiiiii")):
            self._functions[name] = module.get_function(name)
            self._functions[name].prepare(parameters)
        self._levels = self._upload(np.stack(normalisation_tables(spec)))
        self._frame: Buffer | None = None
        self._place: Placement | None = None
        self._tables: list[Any] = []
        self._name = ""
        self._arguments: tuple[int | float, ...] = ()

    def __call__(self, image: NDArray[np.uint8], stream: Any) -> Placement:  # noqa: ANN401
        """Give a stream a frame to preprocess.

        The stream must have finished with the frame before.

        Args:
            image: RGB pixels, uint8 (H, W, 3); copied before this returns.
            stream: The stream, of the device's context.

        Returns:
            Where the image lies in the network's input.
        """
        height, width, _ = image.shape
        if self._place is None or self._place.source_hw != (height, width):
            self._resize_to(placement((height, width), self._spec))
        place, frame = self._place, self._frame
        if place is None or frame is None:
            raise ValueError("the kernel is closed")
        np.copyto(frame.host, image)
        frame.upload(stream)
        rows, columns = self._spec.input_hw
        grid = (-(-columns // BLOCK[0]), -(-rows // BLOCK[1]))
        self._functions[self._name].prepared_async_call(
            grid, BLOCK, stream, frame.address, self._out, int(self._levels), *self._arguments
        )
        return place

    def close(self) -> None:
        """Free the device's memory."""
        self._forget_size()
        self._levels.free()
        self._functions.clear()

    def _resize_to(self, place: Placement) -> None:
        """Make the buffer and tables for frames of one size."""
        self._forget_size()
        self._frame = Buffer(self._drv, (*place.source_hw, 3), np.uint8)
        self._name, arrays, factor = kernel_arguments(place)
        for array in arrays:
            self._tables.append(self._upload(array))
        self._arguments = (
            *map(int, self._tables),
            *factor,
            place.source_hw[1],
            *place.placed_hw,
            *place.input_hw,
            self._spec.pad_value,
        )
        self._place = place

    def _forget_size(self) -> None:
        frame, self._frame, self._place = self._frame, None, None
        if frame:
            frame.free()
        while self._tables:
            self._tables.pop().free()

    def _upload(self, array: NDArray[Any]) -> Any:  # noqa: ANN401
        """Copy an array to new memory on the device, at once."""
        memory = self._drv.mem_alloc(array.nbytes)
        self._drv.memcpy_htod(memory, np.ascontiguousarray(array))
        return memory


def kernel_source() -> str:
    """Return the kernels' CUDA source."""
    return (files("edgedetr.runtime.cuda") / "frame_kernel.cu").read_text(encoding="utf-8")


def kernel_arguments(place: Placement) -> tuple[str, Sequence[NDArray[Any]], tuple[float, ...]]:
    """Return which kernel resizes so, its tables in order, and the factor that ``area`` takes."""
    lengths = list(zip(place.source_hw, place.placed_hw, strict=True))[::-1]
    if place.source_hw == place.placed_hw or not averages_areas(place):
        return "bilinear", [bilinear_table(*axis) for axis in lengths], ()
    is_whole = all(source % target == 0 for source, target in lengths)
    make = whole_area_table if is_whole else area_table
    tables = [make(*axis) for axis in lengths]
    pixels = prod(s // t for s, t in lengths) if is_whole else 1
    arrays = [a for t in tables for a in (t.spans, t.taps, t.weights)]
    return "area", arrays, (1 / pixels,)
