"""A compiler with its libraries, and signed packages of small models."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgedetr.export.deploy.cpp import write_program
from edgedetr.export.package.keys import keygen, public_path
from edgedetr.export.package.write import Contents, package
from edgedetr.graph.checksum import model_files
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.package.reader import Package, read_package
from edgedetr.runtime.spec import ModelSpec

HERE = Path(__file__).parent
CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(probe CXX)
add_compile_options(-Wall -Wextra -Werror)
add_subdirectory(program)
add_executable(probe probe.cpp)
target_compile_definitions(probe PRIVATE INPUT_BYTES={input_bytes})
target_link_libraries(probe PRIVATE edgedetr)
"""
NOT_INSTALLED = ("OpenCVConfig.cmake", "Could NOT find OpenSSL")


@pytest.fixture(scope="session")
def onnxruntime_root(tmp_path_factory):
    """The folder of an ONNX Runtime release: one that the environment names, or of the wheel."""
    if named := os.environ.get("ONNXRUNTIME_ROOT"):
        return Path(named)
    wheel = Path(onnxruntime.__file__).parent / "capi"
    libraries = sorted(wheel.glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip(f"no libonnxruntime.so in {wheel}; set ONNXRUNTIME_ROOT to a release's folder")
    root = tmp_path_factory.mktemp("onnxruntime")
    (root / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (root / "lib" / name).symlink_to(libraries[0])
    (root / "include").symlink_to(HERE / "include")
    return root


@dataclass(frozen=True)
class Found:
    """What the program computed of one image.

    Attributes:
        labels: (N,).
        boxes: Corners in source pixels, (N, 4).
        scores: (N,).
    """

    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Program:
    """A compiled program: ``probe`` and ``edgedetr_detect``."""

    folder: Path
    spec: ModelSpec

    def run(self, package, key, images, threshold=0.0):
        """Return the network's inputs, (N, 3, H, W), and what was found in each image."""
        inputs = self.folder / "inputs"
        done = self.start("probe", package, key, threshold, inputs, *images)
        assert done.returncode == 0, done.stderr
        lines = iter(done.stdout.splitlines())
        found = []
        for count in lines:
            rows = [next(lines).split() for _ in range(int(count))]
            table = np.array(rows, np.float64).reshape(-1, 6)
            found.append(Found(table[:, 0].astype(int), table[:, 1:5], table[:, 5]))
        return np.fromfile(inputs, np.float32).reshape(-1, 3, *self.spec.input_hw), found

    def start(self, name, *arguments):
        places = {"probe": "probe", "edgedetr_detect": "program/edgedetr_detect"}
        command = [str(self.folder / "build" / places[name]), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def compiled(onnxruntime_root, tmp_path_factory):
    """Compiles the program of a spec, or skips where there is no compiler or a library lacks."""
    if sys.platform != "linux" or not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("no C++ compiler with CMake here")

    def compile_(spec, *targets):
        folder = tmp_path_factory.mktemp("cpp")
        write_program(spec, folder / "program")
        input_bytes = 4 * 3 * spec.input_hw[0] * spec.input_hw[1]
        (folder / "CMakeLists.txt").write_text(CMAKE.format(input_bytes=input_bytes))
        shutil.copy(HERE / "probe.cpp", folder)
        build = ["cmake", "-S", folder, "-B", folder / "build"]
        build += [f"-DONNXRUNTIME_ROOT={onnxruntime_root}", "-DCMAKE_BUILD_TYPE=Debug"]
        configured = subprocess.run(build, capture_output=True, text=True, check=False)
        for message in NOT_INSTALLED:
            if message in configured.stderr:
                pytest.skip(f"{message}: install libopencv-dev and libssl-dev")
        assert configured.returncode == 0, configured.stderr
        made = ["cmake", "--build", folder / "build", "--target", "probe", *targets]
        built = subprocess.run(made, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout + built.stderr
        return Program(folder, spec)

    return compile_


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    """A private key; its public half has the suffix .pub."""
    path = tmp_path_factory.mktemp("keys") / "k"
    keygen(path, "")
    return path


@pytest.fixture
def pack(key, tmp_path):
    """Packs an ONNX file as an import; returns package and public key."""

    def make(model, name="p.tar", key=key):
        output = tmp_path / name
        package(Contents((model,), references=(model,)), output, key)
        return output, public_path(key) if key else None

    return make


@pytest.fixture
def packaged(tiny_onnx, tmp_path):
    """Return an opened package: of a small model, or of an engine by a builder and that model."""
    opened: list[Package] = []

    def make(spec=None, *, engine="", batch=1):
        model = tiny_onnx(spec=spec, batch=batch, bias=((2.0, -9.0), (-9.0, -9.0)))
        built = tmp_path / "m.engine"
        if engine:
            built.write_bytes(b"engine")
            write_manifest(
                built,
                kind="engine",
                command="",
                spec=spec or ModelSpec((8, 16), ("Car", "Pedestrian")),
                versions=(engine,),
                parents=model_files(model),
                targets=("sm_87",),
            )
        path = tmp_path / f"p{len(opened)}.tar"
        engines = (built,) if engine else ()
        package(Contents((model,), engines=engines, references=(model,)), path, None)
        opened.append(read_package(path, require_signature=False))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
