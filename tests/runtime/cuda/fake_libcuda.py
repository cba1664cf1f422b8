"""The driver of `driver/libcuda.cpp` in the place of the real one, with the calls of `fake_cuda`.

What is loaded under the driver's name first is what pycuda and ctypes find from then on, so real
pycuda runs on it in this process.
"""

import ctypes
import gc
import re
import struct
import subprocess
import weakref
from ctypes import CFUNCTYPE, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

NAME = "libcuda.so.1"
FORMATS = {"resize": "PPPPiii", "resize_into_input": "PPPPiiiPiii"}
LEFT = ("device memory", "pinned bytes", "streams", "graphs", "modules", "pushed contexts")
LAUNCH_FAILED = 719
RUN = CFUNCTYPE(c_int, c_int)
KERNEL = CFUNCTYPE(c_int, c_char_p, c_int, c_int, c_int, c_int, c_void_p, c_size_t)
SIGNATURES = {
    "fake_plug": (None, c_char_p, c_int, c_int, c_size_t),
    "fake_fail": (None, c_char_p, c_int),
    "fake_graphs_forget": (None, c_char_p),
    "fake_free_bytes": (c_size_t,),
    "fake_set_free_bytes": (None, c_size_t),
    "fake_host": (c_void_p, c_uint64, c_size_t),
    "fake_misuse": (None, c_char_p),
    "fake_stream": (c_int, c_uint64),
    "fake_invalidate": (None, c_uint64),
    "fake_enqueue": (c_int, c_uint64, c_int),
    "fake_misuses": (c_size_t, c_char_p, c_size_t),
}


class Misuse(BaseException):
    """A bug that CUDA may or may not notice; no `except Exception` hides it."""


def build(folder, compiler, pycuda):
    """Compile the driver, with a function that fails for each one that pycuda names and it lacks.

    Args:
        folder: Where to.
        compiler: Of C++.
        pycuda: The folder of pycuda's package.

    Returns:
        The library's path.
    """
    source = Path(__file__).with_name("driver") / "libcuda.cpp"
    made = set(re.findall(r"\b(cu[A-Z]\w+)\(", source.read_text()))
    (extension,) = pycuda.glob("_driver*.so")
    named = set(re.findall(rb"(?<=\0)cu[A-Z][A-Za-z0-9]+(?:_v\d)?(?=\0)", extension.read_bytes()))
    rest = sorted({name.decode() for name in named} - made)
    lacking = folder / "lacking.cpp"
    lines = [f'extern "C" int {name}() {{ fake_misuse("{name}"); return 801; }}\n' for name in rest]
    lacking.write_text('extern "C" void fake_misuse(const char *);\n' + "".join(lines))
    flags = ["-std=c++11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{NAME}"]
    subprocess.run([compiler, *flags, source, lacking, "-o", folder / NAME], check=True)
    return folder / NAME


def load(path):
    """Load the driver and say how its functions are called.

    Returns:
        The library; None where this process has another driver already.
    """
    ctypes.CDLL(str(path))
    library = ctypes.CDLL(NAME)
    if not hasattr(library, "fake_plug"):
        return None
    for name, (answer, *arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = answer, arguments
    return library


class DriverGpu:
    """The device behind the driver, as `fake_cuda.FakeGpu`; it is plugged in when this is made."""

    def __init__(self, library, name="Orin (fake)", capability=(8, 7), memory=1 << 28):
        self._library = library
        self.kernels = None  # a library of the CPU
        self.others: weakref.WeakSet[Any] = weakref.WeakSet()
        self.failing = _Failing(library)
        self._works, self._lost = [], False
        self._hooks = RUN(self._run), KERNEL(self._launch)
        library.fake_hooks(*self._hooks)
        library.fake_plug(name.encode(), *capability, memory)
        self.name = name

    @property
    def misuses(self):
        size = self._library.fake_misuses(None, 0)
        text = ctypes.create_string_buffer(size + 1)
        self._library.fake_misuses(text, size + 1)
        return text.value.decode().splitlines()

    @property
    def capability(self):
        raise AttributeError("only written")

    @capability.setter
    def capability(self, value):
        self._library.fake_set_capability(*value)

    @property
    def free_bytes(self):
        return self._library.fake_free_bytes()

    @free_bytes.setter
    def free_bytes(self, value):
        self._library.fake_set_free_bytes(value)

    @property
    def is_lost(self):
        return self._lost

    @is_lost.setter
    def is_lost(self, value):
        self._lost = value
        self.lose(LAUNCH_FAILED if value else 0)

    def lose(self, status):
        """Answer every further call with a status, as after an illegal address."""
        self._library.fake_lose(status)

    @property
    def launches(self):
        return self._library.fake_launches()

    @property
    def pinned_bytes(self):
        return self._left()["pinned bytes"]

    @property
    def graph_forgets(self):
        raise AttributeError("only written")

    @graph_forgets.setter
    def graph_forgets(self, kind):
        self._library.fake_graphs_forget(kind.encode())

    @property
    def refuses_modules(self):
        raise AttributeError("only written")

    @refuses_modules.setter
    def refuses_modules(self, refuses):
        self._library.fake_refuse_modules(refuses)

    def misuse(self, text):
        self._library.fake_misuse(text.encode())
        raise Misuse(text)

    def need_context(self, what):
        if not self._library.fake_pushed():
            self.misuse(f"{what} without a current context on this thread")

    def block(self, address, size):
        """The bytes at an address of the device."""
        host = self._library.fake_host(address, max(1, size))
        if host is None:
            raise Misuse(self.misuses[-1])
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host))

    def floats(self, address, shape):
        return self.block(address, 4 * int(np.prod(shape))).view(np.float32).reshape(shape)

    def stream(self, handle):
        if not self._library.fake_stream(handle):
            self.misuse(f"{handle:#x} is no stream, or it was freed")
        return _Stream(self, handle)

    def enqueue(self, handle, work):
        """Give a stream a function of Python to call."""
        self._works.append(work)
        self._library.fake_enqueue(handle, len(self._works) - 1)

    def check_clean(self):
        """Stop unless everything was freed and every push was popped."""
        gc.collect()
        left = {**self._left(), "objects of libraries": list(self.others), "misuses": self.misuses}
        assert not any(left.values()), {k: v for k, v in left.items() if v}

    def _left(self):
        counts = (c_size_t * len(LEFT))()
        self._library.fake_left(counts)
        return dict(zip(LEFT, counts, strict=True))

    def _run(self, number):
        try:
            self._works[number]()
        except Misuse:
            return LAUNCH_FAILED
        return 0

    def _launch(self, name, *sizes_and_data):
        kinds = FORMATS[name.decode()]
        *sizes, data, size = sizes_and_data
        values = struct.unpack(f"@{kinds}", ctypes.string_at(data, size))
        try:
            made = [
                c_void_p(self.block(value, 1).ctypes.data) if kind == "P" else c_int(value)
                for kind, value in zip(kinds, values, strict=True)
            ]
        except Misuse:
            return LAUNCH_FAILED
        getattr(self.kernels, f"launch_{name.decode()}")(*sizes, *made)
        return 0


class _Stream:
    """A stream of pycuda, by its handle, with what `fake_trt` needs of it."""

    def __init__(self, gpu, handle):
        self._gpu, self.handle = gpu, handle

    @property
    def recorded(self):
        return [] if self._gpu._library.fake_stream(self.handle) == 2 else None

    @property
    def is_invalid(self):
        raise AttributeError("only written")

    @is_invalid.setter
    def is_invalid(self, _):
        self._gpu._library.fake_invalidate(self.handle)

    def add(self, work):
        self._gpu.enqueue(self.handle, work[1])


class _Failing:
    """Functions of the driver to the status that each returns."""

    def __init__(self, library):
        self._library, self._names = library, []

    def __setitem__(self, name, status):
        self._names.append(name)
        self._library.fake_fail(name.encode(), status)

    def clear(self):
        while self._names:
            self._library.fake_fail(self._names.pop().encode(), 0)
