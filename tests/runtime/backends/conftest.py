"""Fakes of CUDA and TensorRT, in the place of the libraries that this machine lacks."""

import ctypes
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnxruntime as ort
import pytest

from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.backends import onnxruntime
from edgedetr.runtime.cuda import frame_kernel, graph
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec


def _load(name):
    loader = SourceFileLoader(name, str(Path(__file__).with_name(f"{name}.py")))
    module = sys.modules[name] = ModuleType(name)
    loader.exec_module(module)
    return module


fake_cuda = _load("fake_cuda")
fake_graphs = _load("fake_graphs")
fake_trt = _load("fake_trt")

SHIMS = """
#include <cstddef>
#define __device__
#define __global__
struct Index { int x, y; };
static thread_local Index blockIdx, blockDim, threadIdx;
"""
LAUNCHERS = """
#define FOR_EVERY_THREAD                                                  \\
    blockDim = {block_x, block_y};                                        \\
    for (blockIdx.y = 0; blockIdx.y < grid_y; ++blockIdx.y)               \\
    for (blockIdx.x = 0; blockIdx.x < grid_x; ++blockIdx.x)               \\
    for (threadIdx.y = 0; threadIdx.y < block_y; ++threadIdx.y)           \\
    for (threadIdx.x = 0; threadIdx.x < block_x; ++threadIdx.x)
extern "C" void launch_resize(int grid_x, int grid_y, int block_x, int block_y,
    const unsigned char *image, unsigned char *made, const int *a, const int *b, int c, int d,
    int e)
{ FOR_EVERY_THREAD resize(image, made, a, b, c, d, e); }
extern "C" void launch_resize_into_input(int grid_x, int grid_y, int block_x, int block_y,
    const unsigned char *image, float *out, const int *a, const int *b, int c, int d, int e,
    const float *levels, int f, int g, int h)
{ FOR_EVERY_THREAD resize_into_input(image, out, a, b, c, d, e, levels, f, g, h); }
"""
SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


@pytest.fixture
def gpu(monkeypatch):
    """A fake GPU whose every use is checked, and which must be left as it was found."""
    made = fake_cuda.FakeGpu()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", made.driver)
    libcuda = fake_graphs.libcuda(made)
    monkeypatch.setattr(graph, "_load", lambda: libcuda)
    monkeypatch.setattr(frame_kernel, "compile_cuda", lambda *_: b"\x7fELF")
    yield made
    made.check_clean()


@pytest.fixture
def install_trt(gpu, monkeypatch):
    """Put a fake TensorRT in place; see `fake_trt.fake_trt`."""

    def install(name="tensorrt", version="10.3.0", **faults):
        module = fake_trt.fake_trt(gpu, name, version, **faults)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return install


@pytest.fixture
def tiny_engine(tmp_path):
    """Write an engine of the network of `tiny_onnx`, with its manifest."""

    def write(*, builder="tensorrt==10.3.0", targets=("sm_87",), data=None, spec=SPEC, **changes):
        path = tmp_path / "tiny.engine"
        version = builder.partition("=")[2].lstrip("=")
        changes = {"version": version} | changes
        path.write_bytes(fake_trt.engine_bytes(**changes) if data is None else data)
        parent = tmp_path / "student.onnx"
        parent.write_bytes(b"onnx")
        write_manifest(
            path,
            kind="engine",
            command="",
            spec=spec,
            versions=("edgedetr==0.1.0", builder),
            parents=[parent],
            targets=targets,
        )
        return path

    return write


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The kernels as functions of the CPU."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler (g++ or clang++) to compile the kernels with")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cpp").write_text(SHIMS + frame_kernel.kernel_source() + LAUNCHERS)
    flags = ["-std=c++11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    library = folder / "kernels.so"
    subprocess.run([compiler, *flags, folder / "kernels.cpp", "-o", library], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture
def opened(install_trt, tiny_engine):
    """Open the tiny engine; every session is closed at the end."""
    sessions = []

    def open_one(*, library="tensorrt", version="10.3.0", faults=None, **engine):
        install_trt(library, version, **(faults or {}))
        path = tiny_engine(**{"builder": f"{library}=={version}"} | engine)
        sessions.append(backend(library).open_session(path))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()
    sessions.clear()


@pytest.fixture
def gpu_providers(monkeypatch):
    """Let ONNX Runtime have its providers for GPUs, in name; the CPU does the work.

    Returns:
        What may be set: ``present``, the providers of the build, and ``starting``, those that start
        on this machine.
    """
    state = SimpleNamespace(
        present=[onnxruntime.TENSORRT, onnxruntime.CUDA, onnxruntime.CPU],
        starting=[onnxruntime.TENSORRT, onnxruntime.CUDA, onnxruntime.CPU],
        asked=[],
    )

    class Session(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, path, options, providers, enable_fallback):
            assert enable_fallback == 0
            state.asked.append(providers)
            self._named = [p for p in providers if p in state.starting]
            super().__init__(path, options, providers=[onnxruntime.CPU])

        def get_providers(self):
            return self._named

    monkeypatch.setattr(ort, "get_available_providers", lambda: state.present)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    return state
