"""Compile CUDA source for this machine's GPU with NVRTC, which comes with CUDA's runtime packages.

pycuda's own SourceModule calls nvcc, which an image for a vehicle does not have.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("libnvrtc.so", *(f"libnvrtc.so.{major}" for major in (13, 12, 11.2)))
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "nvrtcCreateProgram": (POINTER(c_void_p), c_char_p, c_char_p, c_int, c_void_p, c_void_p),
    "nvrtcCompileProgram": (c_void_p, c_int, POINTER(c_char_p)),
    "nvrtcGetProgramLogSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetProgramLog": (c_void_p, c_char_p),
    "nvrtcGetCUBINSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetCUBIN": (c_void_p, c_char_p),
    "nvrtcDestroyProgram": (POINTER(c_void_p),),
}


class CompileError(Exception):
    """There is no NVRTC, or it does not compile for this GPU; the message says why."""


def compile_cuda(source: str, compute_capability: str) -> bytes:
    """Compile CUDA C++ to code for one GPU.

    Args:
        source: The source of kernels declared ``extern "C"``.
        compute_capability: For example ``8.7``.

    Returns:
        A cubin.

    Raises:
        CompileError: If NVRTC is missing, too old for the GPU, or the source is wrong.
    """
    nvrtc = _load()
    architecture = f"--gpu-architecture=sm_{compute_capability.replace('.', '')}".encode()
    program = c_void_p()
    _check(
        nvrtc.nvrtcCreateProgram(byref(program), source.encode(), b"kernel.cu", 0, None, None), ""
    )
    try:
        status = nvrtc.nvrtcCompileProgram(program, 1, (c_char_p * 1)(architecture))
        _check(status, _read(nvrtc, "ProgramLog", program).rstrip(b"\0").decode())
        return _read(nvrtc, "CUBIN", program)
    finally:
        nvrtc.nvrtcDestroyProgram(byref(program))


@lru_cache(maxsize=1)
def _load() -> Any:  # noqa: ANN401
    for name in (*_NAMES, *_wheels()):
        try:
            nvrtc: Any = ctypes.CDLL(name)
        except OSError:
            continue
        for function, arguments in _SIGNATURES.items():
            getattr(nvrtc, function).argtypes = arguments
        return nvrtc
    raise CompileError("NVRTC is not installed; it comes with CUDA (cuda-nvrtc)")


def _wheels() -> Iterator[str]:
    """Name NVRTC's libraries in NVIDIA's Python packages."""
    found = find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        yield from sorted(map(str, Path(folder).glob("*/lib/libnvrtc.so.*")), reverse=True)


def _read(nvrtc: Any, what: str, program: c_void_p) -> bytes:  # noqa: ANN401
    size = c_size_t()
    _check(getattr(nvrtc, f"nvrtcGet{what}Size")(program, byref(size)), "")
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(nvrtc, f"nvrtcGet{what}")(program, buffer), "")
    return buffer.raw


def _check(status: int, log: str) -> None:
    if status:
        raise CompileError(f"NVRTC stopped with {status}: {' '.join(log.split()) or 'no reason'}")
