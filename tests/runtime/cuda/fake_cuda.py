"""A GPU that does its work on the CPU, behind the calls of pycuda.driver and of the CUDA driver.

It is strict where a GPU is silent: what would read freed memory, race with a copy, or leak, is a
`Misuse`. Work given to a stream is done when the stream is synchronised and not before, and an
array that a copy will fill holds NaN until then. Contexts are a stack for each thread, as in
pycuda: memory that is dropped on a thread without a context leaks, unless it was made there.
"""

import ctypes
import gc
import threading
import weakref
from typing import Any

import numpy as np


class Misuse(BaseException):
    """A bug that CUDA may or may not notice; no `except Exception` hides it."""


class FakeGpu:
    """The device: its memory, streams and graphs, and what was done wrong with them."""

    def __init__(self, name="Orin (fake)", capability=(8, 7), memory=1 << 28):
        self.name, self.capability, self.free_bytes = name, capability, memory
        self.misuses: list[str] = []
        self.stacks: dict[int, list[Any]] = {}
        self.memory: dict[int, np.ndarray | None] = {}
        self.graveyard: list[np.ndarray] = []
        self.pinned_bytes = 0
        self.streams: weakref.WeakValueDictionary[int, _Stream] = weakref.WeakValueDictionary()
        self.others: weakref.WeakSet[Any] = (
            weakref.WeakSet()
        )  # what other libraries keep on the device
        self.graphs: dict[int, list[Any]] = {}
        self.executables: dict[int, list[Any]] = {}
        self.launches = 0
        self.failing: dict[str, int] = {}  # driver function to the status that it returns
        self.graph_forgets = ""  # kind of work that replays leave out
        self.is_lost = False
        self.refuses_modules = False
        self.kernels = None  # a library of the CPU
        self.driver = FakeDriver(self)
        self._next = 0x1000

    def misuse(self, text):
        self.misuses.append(text)
        raise Misuse(text)

    def handle(self):
        self._next += 0x10
        return self._next

    def stack(self):
        return self.stacks.setdefault(threading.get_ident(), [])

    def need_context(self, what):
        if not self.stack():
            self.misuse(f"{what} without a current context on this thread")

    def dropped(self, what, thread):
        """Note that an object was dropped that pycuda can only free with its context."""
        if not self.stack() and threading.get_ident() != thread:
            self.misuses.append(f"{what} dropped on another thread without a context: it leaks")

    def allocate(self, size):
        if size > self.free_bytes:
            raise self.driver.MemoryError("cuMemAlloc failed: out of memory")
        self.free_bytes -= size
        block = np.full(size, 0xFF, np.uint8)  # NaN until it is written
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def release(self, address):
        block = self.block(address, 0)
        self.free_bytes += block.size
        self.memory[address] = None
        self.graveyard.append(block)  # so that its address is not used again

    def block(self, address, size):
        if address not in self.memory:
            self.misuse(f"{address:#x} is no address on the device")
        block = self.memory[address]
        if block is None:
            self.misuse(f"use of device memory at {address:#x} after it was freed")
        elif block.size < size:
            self.misuse(f"{size} bytes at {address:#x}, where {block.size} were allocated")
        return block

    def stream(self, handle):
        if handle not in self.streams:
            self.misuse(f"{handle:#x} is no stream, or it was freed")
        return self.streams[handle]

    def floats(self, address, shape):
        size = 4 * int(np.prod(shape))
        return self.block(address, size)[:size].view(np.float32).reshape(shape)

    def check_clean(self):
        """Stop unless everything was freed and every push was popped."""
        gc.collect()
        left = {
            "device memory": [hex(a) for a, b in self.memory.items() if b is not None],
            "pinned bytes": self.pinned_bytes,
            "streams": list(self.streams),
            "graphs": [*self.graphs, *self.executables],
            "objects of libraries": list(self.others),
            "pushed contexts": [s for s in self.stacks.values() if s],
            "misuses": self.misuses,
        }
        assert not any(left.values()), {k: v for k, v in left.items() if v}


class FakeDriver:
    """The module ``pycuda.driver``."""

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001 - as pycuda calls it
        pass

    class LogicError(Error):
        pass

    class LaunchError(Error):
        pass

    class RuntimeError(Error):  # noqa: A001 - as pycuda calls it
        pass

    def __init__(self, gpu):
        self.gpu = gpu
        self.is_initialised = False
        self.Context = _Context(gpu)

    def Device(self, ordinal):  # noqa: N802
        if not self.is_initialised:
            self.gpu.misuse("Device before init()")
        if ordinal != 0:
            raise self.LogicError("cuDeviceGet failed: invalid device ordinal")
        return _Device(self.gpu)

    def init(self):
        if self.gpu.is_lost:
            raise self.LogicError("cuInit failed: no CUDA-capable device is detected")
        self.is_initialised = True

    def Stream(self, flags=0):  # noqa: N802
        return _Stream(self.gpu, flags)

    def mem_alloc(self, size):
        self.gpu.need_context("mem_alloc")
        _no_capture(self.gpu, "mem_alloc")
        return _DeviceAllocation(self.gpu, size)

    def pagelocked_empty(self, shape, dtype):
        self.gpu.need_context("pagelocked_empty")
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.asarray(_PinnedAllocation(self.gpu, size)).view(dtype).reshape(shape)

    def memcpy_htod_async(self, dest, src, stream):
        self.gpu.need_context("memcpy_htod_async")
        host = _pinned(self.gpu, src)
        stream.add(("in", int(dest), host))

    def memcpy_dtoh_async(self, dest, src, stream):
        self.gpu.need_context("memcpy_dtoh_async")
        self.gpu.block(int(src), dest.nbytes)
        stream.add(("out", int(src), _pinned(self.gpu, dest)))

    def module_from_buffer(self, cubin):
        self.gpu.need_context("module_from_buffer")
        assert cubin
        if self.gpu.refuses_modules:
            raise self.RuntimeError("cuModuleLoadDataEx failed: no kernel image is available")
        return _Module(self.gpu)


class _Context:
    """Only ever the primary one; stands for pycuda's class too, whose ``pop`` is static."""

    def __init__(self, gpu):
        self._gpu = gpu

    def push(self):
        self._gpu.stack().append(self)

    def synchronize(self):
        self._gpu.need_context("synchronize")
        if self._gpu.is_lost:
            raise self._gpu.driver.LaunchError("cuCtxSynchronize failed: unspecified failure")

    def pop(self):
        if not self._gpu.stack():
            self._gpu.misuse("pop without a push on this thread")
        self._gpu.stack().pop()


class _Device:
    def __init__(self, gpu):
        self._gpu = gpu

    def name(self):
        return self._gpu.name

    def compute_capability(self):
        return self._gpu.capability

    def retain_primary_context(self):
        return self._gpu.driver.Context


class _DeviceAllocation:
    def __init__(self, gpu, size):
        self._gpu, self._thread = gpu, threading.get_ident()
        self._address = gpu.allocate(size)

    def __int__(self):
        return self._address

    def free(self):
        self._gpu.need_context("free")
        if self._address is None:
            self._gpu.misuse("device memory freed twice")
        self._gpu.release(self._address)
        self._address = None

    def __del__(self):
        if getattr(self, "_address", None) is not None:
            self._gpu.dropped("device memory", self._thread)


class _PinnedAllocation:
    """Owns pinned memory; numpy arrays made from it keep it alive."""

    def __init__(self, gpu, size):
        self._gpu, self._thread = gpu, threading.get_ident()
        self._bytes = np.full(size, 0xFF, np.uint8)
        gpu.pinned_bytes += size

    @property
    def __array_interface__(self):
        return self._bytes.__array_interface__

    def __del__(self):
        self._gpu.pinned_bytes -= self._bytes.size
        self._gpu.dropped("pinned memory", self._thread)


def _pinned(gpu, array):
    """Return a weak view of a pinned array: it does not keep the memory alive."""
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, _PinnedAllocation):
        gpu.misuse("asynchronous copy of memory that is not pinned")
    reference, shape, dtype = weakref.ref(owner), array.shape, array.dtype

    def view():
        alive = reference()
        if alive is None:
            gpu.misuse("copy of pinned memory after it was freed")
        return np.asarray(alive).view(dtype).reshape(shape)

    return view


def _copy_in(gpu, address, array):
    data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    gpu.block(address, data.size)[: data.size] = data


class _Stream:
    """Work in order; while it is recorded nothing is done."""

    def __init__(self, gpu, flags):
        gpu.need_context("Stream")
        self.gpu, self.flags, self.handle = gpu, flags, gpu.handle()
        self._thread = threading.get_ident()
        self.pending: list[Any] = []
        self.recorded: list[Any] | None = None
        self.recorder = 0
        self.is_invalid = False
        gpu.streams[self.handle] = self

    def add(self, work):
        if self.recorded is not None:
            self.recorded.append(work)
            return
        if work[0] == "out":
            work[2]().view(np.uint8)[...] = 0xFF  # NaN for whoever reads too early
        self.pending.append(work)

    def synchronize(self):
        self.gpu.need_context("synchronize")
        if self.recorded is not None:
            self.is_invalid = True
            raise self.gpu.driver.LogicError("cuStreamSynchronize failed: stream is capturing")
        if self.gpu.is_lost:
            self.pending.clear()
            raise self.gpu.driver.LaunchError("cuStreamSynchronize failed: unspecified failure")
        work, self.pending = self.pending, []
        for kind, *what in work:
            if kind == "in":
                _copy_in(self.gpu, what[0], what[1]())
            elif kind == "out":
                target = what[1]()
                data = self.gpu.block(what[0], target.nbytes)[: target.nbytes]
                target.reshape(-1).view(np.uint8)[...] = data
            else:
                what[0]()

    def __del__(self):
        if self.pending:
            self.gpu.misuses.append("a stream was dropped with work in it")
        self.gpu.dropped("a stream", self._thread)


def _no_capture(gpu, what):
    """Fail like the driver where a thread allocates while it records."""
    for stream in gpu.streams.values():
        if stream.recorded is not None and stream.recorder == threading.get_ident():
            stream.is_invalid = True
            raise gpu.driver.LogicError(f"{what} failed: operation not permitted when capturing")


class _Module:
    def __init__(self, gpu):
        self._gpu = gpu
        gpu.others.add(self)

    def get_function(self, name):
        return _Function(self._gpu, name, self)


class _Function:
    """A kernel, run by the CPU on the fake's memory."""

    def __init__(self, gpu, name, module):
        self._gpu, self._name, self._module = gpu, name, module
        self._format = ""

    def prepare(self, parameters):
        self._format = parameters

    def prepared_async_call(self, grid, block, stream, *arguments):
        gpu = self._gpu
        gpu.need_context("a kernel")
        if len(arguments) != len(self._format):
            gpu.misuse(f"{self._name} takes {self._format}, got {len(arguments)} arguments")
        made = []
        for kind, value in zip(self._format, arguments, strict=True):
            if kind == "P":
                gpu.block(value, 1)
            made.append({"P": ctypes.c_void_p, "i": ctypes.c_int}[kind](value))
        launch = getattr(gpu.kernels, f"launch_{self._name}")
        stream.add(("kernel", lambda: launch(*grid, *block[:2], *made)))
