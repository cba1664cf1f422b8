"""Run engines of TensorRT and TensorRT-RTX: one implementation, handed the library to use."""

from __future__ import annotations

import contextlib
import logging
import threading
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.cuda.buffers import Buffer
from edgedetr.runtime.cuda.context import PrimaryContext
from edgedetr.runtime.cuda.execution import Execution
from edgedetr.runtime.cuda.frame_kernel import FrameKernel, KernelError, check_kernel
from edgedetr.runtime.cuda.graph import Graph, GraphError, record
from edgedetr.runtime.cuda.nvrtc import CompileError
from edgedetr.runtime.cuda.preflight import TITLES, check_engine, runs_host_code
from edgedetr.runtime.decode import decode
from edgedetr.runtime.errors import BackendError, DeviceLostError, UsageError
from edgedetr.runtime.manifest import read_manifest
from edgedetr.runtime.spec_checks.tensors import FLOAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedetr.runtime.manifest import Manifest
    from edgedetr.runtime.preprocess import Placement
    from edgedetr.runtime.spec import ModelSpec

INSTALL = {
    "pycuda": "pip install pycuda, which needs the headers of CUDA",
    "tensorrt": "on a Jetson it comes with JetPack (python3-libnvinfer); elsewhere "
    "pip install 'edgedetr[tensorrt]'",
    "tensorrt_rtx": "pip install 'edgedetr[tensorrt-rtx]'",
}

_WARM_UP_RUNS = 3
_NON_BLOCKING = 1  # the stream does not wait for work on the default stream
_LOG = logging.getLogger(__name__)


def open_engine(path: Path, spec: ModelSpec | None, library: str) -> EngineSession:
    """Load an engine after checking that it is for this machine.

    Args:
        path: The engine; its manifest must lie beside it.
        spec: Replaces the spec in the manifest.
        library: ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        ArtifactError: If the engine or its manifest is missing, damaged, or for another library,
            version or GPU than this machine's.
        BackendError: If there is no GPU, or not enough memory on it.
        UsageError: If the library or pycuda is not installed.
    """
    manifest = read_manifest(path)
    trt, drv, context = check_fit(manifest, path, library)
    return EngineSession(trt, drv, context, path, manifest, spec or manifest.spec)


def check_fit(manifest: Manifest, path: Path, library: str) -> tuple[Any, Any, PrimaryContext]:
    """Stop unless an engine is for this machine; nothing of the engine itself is read.

    Args:
        manifest: Of the engine.
        path: The engine, for messages.
        library: ``tensorrt`` or ``tensorrt_rtx``.

    Returns:
        The library, ``pycuda.driver`` and the GPU's context.

    Raises:
        ArtifactError: If the engine is for another library, version or GPU.
        BackendError: If there is no GPU.
        UsageError: If the library or pycuda is not installed.
    """
    drv = _import("pycuda.driver")
    try:
        context = PrimaryContext(drv)
    except drv.Error as error:
        raise BackendError(
            f"{TITLES[library]} needs a GPU, and CUDA finds none: {error}"
        ) from error
    trt = _import(library)  # last, because it takes long
    check_engine(manifest, path, library, trt.__version__, context.compute_capability)
    return trt, drv, context


class EngineSession:
    """An engine with its own execution context, stream and buffers, for one thread at a time.

    A thread that should run the model beside another opens a session of its own. The host's
    buffers are pinned and stay where they are, as do the device's, so that the run can be recorded
    as a CUDA graph after the warm-up; where that fails, or the outputs of the graph differ, every
    frame is enqueued call by call and ``runs_on`` reports it.

    Attributes:
        spec: The contract of the model.
        runs_on: Library, device and what was recorded, for a reader.
        feed: Preprocesses a frame, uint8 RGB (H, W, 3), on the device and returns its placement;
            the next `infer` runs on it, unless ``images`` is read before. None where the
            kernel cannot be compiled or loaded, or gives other bits than the CPU, and where the
            engine takes several images at once: then frames are preprocessed on the CPU.
    """

    def __init__(
        self,
        trt: Any,  # noqa: ANN401
        drv: Any,  # noqa: ANN401
        context: PrimaryContext,
        path: Path,
        manifest: Manifest,
        spec: ModelSpec,
    ) -> None:
        self.spec = spec
        self.runs_on = f"{trt.__name__} {trt.__version__}, {context.device_name}"
        self.feed: Callable[[NDArray[np.uint8]], Placement] | None = None
        self._drv, self._context, self._path = drv, context, path
        self._lock = threading.Lock()
        self._is_fed = False
        self._execution: Execution | None = None
        self._graph: Graph | None = None
        self._kernel: FrameKernel | None = None
        self._buffers: list[Buffer] = []
        self._others: list[Any] = []
        self._stream: Any = None
        try:
            with self._on_device():
                host_code = runs_host_code(manifest, trt.__name__)
                self._execution = Execution(trt, path, spec, host_code=host_code)
                self._allocate(self._execution)
                self._warm_up()
                self._record()
                if self._execution.batch == 1:
                    self._compile_kernel()
        except BaseException:
            self.close()
            raise

    @property
    def images(self) -> NDArray[np.float32]:
        """The input buffer, pinned, float32 (B, 3, H, W); reading it takes back the last feed.

        Raises:
            ValueError: If the session is closed.
        """
        self._opened()
        self._is_fed = False
        return self._buffers[0].host

    @property
    def has_graph(self) -> bool:
        """Whether a frame is one launch of a CUDA graph."""
        return self._graph is not None

    def infer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run on ``images`` or the frame that was fed; return logits (B, Q, K) and boxes (B, Q, 4).

        The arrays are the session's and valid until the next call.

        Raises:
            ValueError: If the session is closed.
            BackendError: If the library refuses or the device fails; the next call may succeed.
            DeviceLostError: If the device fails until the process ends.
            ArtifactError: If the outputs are not what the spec says; see `decode`.
        """
        with self._lock:
            self._opened()
            images, *outputs = self._buffers
            with self._on_device():
                if not self._is_fed:
                    images.upload(self._stream)
                self._is_fed = False
                if self._graph:
                    self._graph.launch(self._stream.handle)
                else:
                    self._enqueue()
                self._stream.synchronize()
            return decode([a.host for a in outputs], self.spec)

    def close(self) -> None:
        """Free everything on the device; a second call does nothing.

        Arrays that the caller still holds stay readable.
        """
        with self._lock, self._context:
            if self._stream is not None:
                with contextlib.suppress(self._drv.Error):  # of a device that has failed before
                    self._stream.synchronize()
            if self._graph:
                with contextlib.suppress(GraphError):
                    self._graph.close()
            for owner in (self._execution, self._kernel):
                if owner:
                    owner.close()
            for memory in (*self._buffers, *self._others):
                memory.free()
            self._execution = self._graph = self._kernel = self.feed = self._stream = None
            self._buffers, self._others = [], []

    def _opened(self) -> Execution:
        if self._execution is None:
            raise ValueError("the session is closed")
        return self._execution

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """Make the context current, and the device's errors ours."""
        try:
            with self._context:
                yield
        except (self._drv.Error, GraphError, BackendError) as error:
            if not self._context.works():
                raise DeviceLostError(
                    f"{self._path}: the GPU failed for good: {error}; start the process again"
                ) from error
            if isinstance(error, BackendError):
                raise
            raise BackendError(f"{self._path}: the GPU failed: {error}") from error

    def _allocate(self, execution: Execution) -> None:
        """Make the stream and all buffers, and bind them to the engine."""
        spec = self.spec
        self._stream = self._drv.Stream(_NON_BLOCKING)
        image = (FLOAT, (execution.batch, 3, *spec.input_hw))
        addresses = {}
        for name, (kind, shape) in {spec.input_name: image, **execution.outputs}.items():
            self._buffers.append(Buffer(self._drv, shape, kind))
            addresses[name] = self._buffers[-1].address
        for name, size in execution.other_bytes.items():
            self._others.append(self._drv.mem_alloc(max(1, size)))
            addresses[name] = int(self._others[-1])
        execution.bind(addresses)

    def _enqueue(self) -> None:
        """Give the stream the model and the copies of its outputs."""
        self._opened().enqueue(self._stream.handle)
        for output in self._buffers[1:]:
            output.download(self._stream)

    def _warm_up(self) -> None:
        """Let the library allocate and choose what it does in the first runs."""
        self._buffers[0].upload(self._stream)
        for _ in range(_WARM_UP_RUNS):
            self._enqueue()
            self._stream.synchronize()

    def _record(self) -> None:
        """Record the run as a graph; keep it if a new input gives the outputs of the calls."""
        try:
            graph = self._graph = record(self._stream.handle, self._enqueue)
            self._check_graph(graph)
        except GraphError as error:
            _LOG.warning("%s runs without a CUDA graph: %s", self._path, error)
            self.runs_on += f"; without a CUDA graph: {error}"
            if self._graph:
                self._graph.close()
            self._graph = None

    def _check_graph(self, graph: Graph) -> None:
        """Run the calls on noise, then on zeros, then the graph on the noise again."""
        images, *outputs = self._buffers
        noise = np.random.default_rng(0).random(images.host.shape, np.float32)
        self._run_once(noise, self._enqueue)
        wanted = [a.host.copy() for a in outputs]
        self._run_once(0, self._enqueue)  # or a graph that does nothing would leave what is wanted
        self._run_once(noise, lambda: graph.launch(self._stream.handle))
        if not all(map(_is_close, [a.host for a in outputs], wanted)):
            raise GraphError("its outputs differ from those of the calls that it recorded")
        images.host[...] = 0

    def _run_once(self, value: NDArray[np.float32] | float, run: Callable[[], object]) -> None:
        images, *outputs = self._buffers
        images.host[...] = value
        for output in outputs:
            output.host[...] = np.nan if output.host.dtype.kind == "f" else -1
        images.upload(self._stream)
        run()
        self._stream.synchronize()

    def _compile_kernel(self) -> None:
        """Preprocess frames on the GPU, if that gives the bits of the CPU here."""
        images, capability = self._buffers[0], self._context.compute_capability
        try:
            self._kernel = FrameKernel(
                self._drv, self.spec, images.address, self._stream, capability
            )
            check_kernel(self._kernel, self.spec, self._written_input)
        except (CompileError, KernelError, self._drv.LogicError, self._drv.RuntimeError) as error:
            reason = str(error)  # a log that kept the error would keep the stream
            _LOG.warning("%s: frames are preprocessed on the CPU: %s", self._path, reason)
            self.runs_on += f"; frames are preprocessed on the CPU: {reason}"
            if self._kernel:
                self._kernel.close()
            self._kernel = None
        else:
            self.feed = partial(self._feed, self._kernel)
        images.host[...] = 0

    def _written_input(self) -> NDArray[np.float32]:
        """Wait for the stream and return what lies in the input on the device."""
        self._buffers[0].download(self._stream)
        self._stream.synchronize()
        return self._buffers[0].host

    def _feed(self, kernel: FrameKernel, image: NDArray[np.uint8]) -> Placement:
        with self._lock:
            self._opened()
            with self._on_device():
                self._stream.synchronize()  # what the frame before still reads must not change
                place = kernel(image)
            self._is_fed = True
            return place


def _is_close(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    return bool(np.allclose(found, wanted, rtol=1e-3, atol=1e-3, equal_nan=True))


def _import(name: str) -> Any:  # noqa: ANN401
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: a library of the system is missing
        raise UsageError(
            f"{package} is needed and cannot be imported ({error}); {INSTALL[package]}"
        ) from error
