"""Packages as `edgedetr package` writes them and as nobody should, and a GPU that is a fake."""

import ctypes
import gc
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edgedetr.runtime.backend_lookup import backend
from edgedetr.runtime.cuda import context, frame_kernel, graph
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.package.archive import TAR_END, padding, tar_header
from edgedetr.runtime.package.reader import ppm_header
from edgedetr.runtime.self_test import Golden, GoldenAnswer, golden_inputs
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))

sys.path.append(str(Path(sys.prefix) / "pycuda"))  # of make pycuda


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A white and a black image."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, grey in (("000001", 255), ("000002", 0)):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((20, 40, 3), grey, np.uint8))
    return folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A private key and the file of its public half."""
    return _keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory):
    """Another private key and the file of its public half."""
    return _keys(tmp_path_factory.mktemp("other_keys"))


@pytest.fixture(scope="session")
def package_files(keys):
    """Makes the files of a package by name, manifest and signature among them."""

    def make(*, key=keys[0], changes=None, **manifest):
        files = {
            "spec.json": SPEC.to_json().encode(),
            "golden.json": json.dumps(asdict(golden())).encode(),
            "golden.ppm": ppm_header((4, 6)) + bytes(range(72)),
            "models/m.onnx": b"graph " * 300,
            "models/m.onnx.manifest.json": b"{}",
            "models/m.bin": b"weights " * 1000,
            "checks/verify.json": b'{"passed": true}',
            "licenses/LICENSE": b"Apache-2.0",
        } | (changes or {})
        listed = [
            {"name": n, "sha256": hashlib.sha256(files[n]).hexdigest(), "size": len(files[n])}
            for n in sorted(files)
        ]
        companions = ["models/m.bin", "models/m.onnx.manifest.json"]
        values = {
            "format": "edgedetr-package-1",
            "models": [
                {
                    "name": "models/m.onnx",
                    "kind": "onnx",
                    "precision": "fp32",
                    "companions": companions,
                }
            ],
            "files": listed,
            "gates": [],
            "signed_by": "somebody" if key else "",
            "versions": [],
            "command": "",
        } | manifest
        data = json.dumps(values).encode()
        return files | {"MANIFEST.json": data} | ({"MANIFEST.sig": key.sign(data)} if key else {})

    return make


@pytest.fixture(scope="session")
def write_folder():
    """Writes files by name into a folder."""

    def write(files, folder):
        for name, data in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return folder

    return write


@pytest.fixture(scope="session")
def tar_bytes():
    """Makes the tar of pairs of name and bytes, in their order."""

    def make(members):
        return b"".join(tar_header(n, len(d)) + d + bytes(padding(len(d))) for n, d in members) + (
            TAR_END
        )

    return make


@pytest.fixture(scope="session")
def packed_tar(package_files, tar_bytes):
    """The bytes of a good signed tar."""
    return tar_bytes(sorted(package_files().items()))


def golden():
    return Golden(
        inputs=golden_inputs(SPEC),
        frame_hw=(4, 6),
        answers=(GoldenAnswer("models/m.onnx", ((0, 0, 3, 3),), (0.5,), (1,), 0.5, 1e-3),),
    )


def _keys(folder):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = folder / "k.pub"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return key, public


def _fake(name):
    loader = SourceFileLoader(name, str(Path(__file__).parent / "cuda" / f"{name}.py"))
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = loader.path
    loader.exec_module(module)
    return module


fake_cuda = _fake("fake_cuda")
fake_graphs = _fake("fake_graphs")
fake_libcuda = _fake("fake_libcuda")
fake_trt = _fake("fake_trt")

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


@pytest.fixture(scope="session")
def libcuda_path(tmp_path_factory, compiler):
    """The driver of `fake_libcuda`, built; None where there is no pycuda to use it."""
    pycuda = find_spec("pycuda")
    if pycuda is None or pycuda.origin is None:
        return None
    folder = tmp_path_factory.mktemp("libcuda")
    return fake_libcuda.build(folder, compiler, Path(pycuda.origin).parent)


@pytest.fixture(scope="session")
def libcuda(libcuda_path):
    """That driver, loaded; None where it is not built, or a real one is loaded already."""
    return None if libcuda_path is None else fake_libcuda.load(libcuda_path)


@pytest.fixture
def gpu(monkeypatch, kernels, libcuda):
    """A fake GPU whose every use is checked, and which must be left as it was found.

    It lies behind pycuda and the driver's library where pycuda is installed, else behind a fake of
    pycuda.
    """
    if libcuda:
        made = fake_libcuda.DriverGpu(libcuda)
        monkeypatch.setattr(context, "_retained", {})
    else:
        made = fake_cuda.FakeGpu()
        monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
        monkeypatch.setitem(sys.modules, "pycuda.driver", made.driver)
        functions = fake_graphs.libcuda(made)
        monkeypatch.setattr(graph, "_load", lambda: functions)
    made.kernels = kernels
    monkeypatch.setattr(frame_kernel, "compile_cuda", lambda *_: b"\x7fELF")
    gc.freeze()  # the check then searches what the test made, and not all that is imported
    yield made
    try:
        made.check_clean()
    finally:
        gc.unfreeze()
        if libcuda:
            libcuda.fake_unplug()


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
def compiler():
    """A compiler of C++, or a skip."""
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler (g++ or clang++) to compile the kernels with")
    return found


@pytest.fixture(scope="session")
def kernels(tmp_path_factory, compiler):
    """The kernels as functions of the CPU."""
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
