"""Preprocess frames on the GPU, to the same bits as `edgedetr.runtime.preprocess` on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.nvrtc import compile_cuda
from edgedetr.runtime.cuda.resize_tables import bilinear_table
from edgedetr.runtime.preprocess import (
    Preprocessor,
    ResizeStep,
    normalisation_tables,
    placement,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

BLOCK = (32, 8, 1)
"""Threads of a block, across and down."""

CHECKED_SCALES = (0.7, 1.6, 4.5)
"""Sizes of the frames that `check_kernel` feeds, in sizes of the network's input."""


class KernelError(Exception):
    """What the kernels write is not what the CPU computes; the message says how much of it."""


class FrameKernel:
    """Writes frames into a network's input on the device.

    What depends on the size of the frames is made for the first one and again when it changes.
    """

    def __init__(
        self,
        drv: Any,  # noqa: ANN401
        spec: ModelSpec,
        out: int,
        stream: Any,  # noqa: ANN401
        compute_capability: str,
    ) -> None:
        """Compile the kernels; the device's context must be current, as for every other call.

        Args:
            drv: The module ``pycuda.driver``.
            spec: How to resize and normalise.
            out: Address of the input on the device, float32 (1, 3, H, W).
            stream: All work goes to it, also the tables: a copy outside it could come too late.
            compute_capability: Of the device, for example ``8.7``.

        Raises:
            CompileError: If that is not possible here.
            KernelError: If the spec wants another resize.
            pycuda.driver.Error: If the driver refuses what was compiled.
        """
        if spec.antialias:
            raise KernelError("no kernel resizes as PIL does, which the model's spec wants")
        module = drv.module_from_buffer(compile_cuda(kernel_source(), compute_capability))
        self._drv, self._spec, self._out, self._stream = drv, spec, out, stream
        self._functions = {}
        for name, parameters in (("resize", "PPPPiii"), ("resize_into_input", "PPPPiiiPiii")):
            self._functions[name] = module.get_function(name)
            self._functions[name].prepare(parameters)
        self._levels = self._upload(np.stack(normalisation_tables(spec)))
        self._frame: Buffer | None = None
        self._place: Placement | None = None
        self._tables: list[Buffer] = []
        self._made: list[Any] = []
        self._launches: list[tuple[Any, tuple[int, int], tuple[int, ...]]] = []

    def __call__(self, image: NDArray[np.uint8]) -> Placement:
        """Give the stream a frame to preprocess; it must have finished with the frame before.

        Args:
            image: RGB pixels, uint8 (H, W, 3); copied before this returns.

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
        frame.upload(self._stream)
        for function, blocks, arguments in self._launches:
            function.prepared_async_call(blocks, BLOCK, self._stream, *arguments)
        return place

    def close(self) -> None:
        """Free the device's memory."""
        self._forget_size()
        self._levels.free()
        self._functions.clear()
        self._stream = None

    def _resize_to(self, place: Placement) -> None:
        """Make the buffers and tables for frames of one size."""
        self._forget_size()
        self._frame = Buffer(self._drv, (*place.source_hw, 3), np.uint8)
        image = self._frame.address
        *first, last = kernel_steps(place)
        for step in first:
            made = self._keep(self._drv.mem_alloc(3 * step.height * step.width))
            self._launch("resize", step, image, made)
            image = made
        rest = (self._levels.address, *place.placed_hw, self._spec.pad_value)
        self._launch("resize_into_input", last, image, self._out, *rest)
        self._place = place

    def _launch(self, name: str, step: KernelStep, image: int, made: int, *rest: int) -> None:
        """Note a call of a kernel that every frame needs."""
        tables = (self._table(step.columns), self._table(step.rows))
        sizes = (step.image_width, step.height, step.width)
        arguments = (image, made, *tables, *sizes, *rest)
        self._launches.append((self._functions[name], grid(step), arguments))

    def _forget_size(self) -> None:
        frame, self._frame, self._place = self._frame, None, None
        self._launches.clear()
        if frame:
            frame.free()
        for kept in (self._tables, self._made):
            while kept:
                kept.pop().free()

    def _keep(self, memory: Any) -> int:  # noqa: ANN401
        """Own memory until the size changes; return its address."""
        self._made.append(memory)
        return int(memory)

    def _table(self, array: NDArray[np.int32]) -> int:
        """Own a table until the size changes; return its address."""
        self._tables.append(self._upload(array))
        return self._tables[-1].address

    def _upload(self, array: NDArray[Any]) -> Buffer:
        """Copy an array to new memory on the device, in the stream's order."""
        buffer = Buffer(self._drv, array.shape, array.dtype)
        np.copyto(buffer.host, array)
        buffer.upload(self._stream)
        return buffer


def check_kernel(
    kernel: FrameKernel, spec: ModelSpec, written: Callable[[], NDArray[np.float32]]
) -> None:
    """Stop unless the kernel gives the bits of the CPU for frames that grow, shrink and are halved.

    Args:
        kernel: The kernel.
        spec: What it was made with.
        written: Waits for the stream and returns the network's input, float32 (1, 3, H, W).

    Raises:
        KernelError: If a value differs.
    """
    random, preprocess = np.random.default_rng(0), Preprocessor(spec)
    wanted = np.empty((3, *spec.input_hw), np.float32)
    for scale in CHECKED_SCALES:
        size = [max(1, round(scale * length)) for length in spec.input_hw]
        image = random.integers(0, 256, (*size, 3), np.uint8)
        kernel(image)
        preprocess(image, wanted)
        wrong = np.count_nonzero(written()[0] != wanted)
        if wrong:
            raise KernelError(
                f"the GPU preprocesses a frame of {size[1]}x{size[0]} otherwise than the CPU: "
                f"{wrong} of {wanted.size} values differ"
            )


def kernel_source() -> str:
    """Return the kernels' CUDA source."""
    return (files("edgedetr.runtime.cuda") / "frame_kernel.cu").read_text(encoding="utf-8")


@dataclass(frozen=True, eq=False)
class KernelStep:
    """One call of a kernel.

    Attributes:
        columns: Table of the columns that it makes, see `bilinear_table`.
        rows: Table of the rows.
        image_width: Width of the image that it reads, in pixels.
        height: Height of what it writes, in pixels.
        width: Width of what it writes.
    """

    columns: NDArray[np.int32]
    rows: NDArray[np.int32]
    image_width: int
    height: int
    width: int


def kernel_steps(place: Placement) -> list[KernelStep]:
    """Return how frames of one size become the network's input: the last call writes that."""
    steps = place.resize_steps() or [ResizeStep(place.source_hw, place.placed_hw)]
    widths = [place.source_hw[1], *(step.made_hw[1] for step in steps)]
    written = [*(step.made_hw for step in steps[:-1]), place.input_hw]
    return [
        KernelStep(
            bilinear_table(step.read_hw[1], step.made_hw[1]),
            bilinear_table(step.read_hw[0], step.made_hw[0]),
            image_width,
            *hw,
        )
        for step, image_width, hw in zip(steps, widths, written, strict=False)
    ]


def grid(step: KernelStep) -> tuple[int, int]:
    """Return how many blocks make all that a call writes, across and down."""
    return -(-step.width // BLOCK[0]), -(-step.height // BLOCK[1])
