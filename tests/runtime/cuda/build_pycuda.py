"""Build pycuda for the tests, into a folder of its own: python build_pycuda.py FOLDER.

Pycuda comes as source. Its headers are those of the wheels that torch brings, and what it is linked
with is an empty library of the driver's name, so neither a GPU nor a CUDA toolkit is needed. Where
it cannot be built, that is said, the exit status is 0, and the tests run on a fake of it.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

PYCUDA = "pycuda==2026.1"
DRIVER = 'extern "C" int cuInit(unsigned) { return 100; }'
PROFILER = """#include <cuda.h>
enum CUoutput_mode { CU_OUT_KEY_VALUE_PAIR, CU_OUT_CSV };
extern "C" CUresult cuProfilerInitialize(const char *, const char *, CUoutput_mode);
extern "C" CUresult cuProfilerStart(void);
extern "C" CUresult cuProfilerStop(void);
"""


class CannotBuildError(Exception):
    """Why pycuda cannot be built here."""


def build(folder, target):
    """Download and configure pycuda in a folder, and install it into another."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise CannotBuildError("no C++ compiler (g++ or clang++)")
    headers = cuda_headers()
    (folder / "cudaProfiler.h").write_text(PROFILER)  # in no wheel that torch brings
    (folder / "driver.cpp").write_text(DRIVER)
    name = ["-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so"]
    run([compiler, "-shared", "-fPIC", folder / "driver.cpp", *name])
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    here = ["--no-deps", "--no-build-isolation"]
    once = ["--retries", "1", "--no-binary", "pycuda"]
    run([*pip, "download", *here, *once, "--dest", folder, PYCUDA])
    (archive,) = folder.glob("pycuda-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    source = archive.with_name(archive.name.removesuffix(".tar.gz"))
    settings = {
        "CUDA_INC_DIR": [str(headers), str(folder)],
        "CUDADRV_LIB_DIR": [str(folder)],
        "CUDA_ENABLE_CURAND": False,
        "CXXFLAGS": ["-O0", "-g0", "-w"],
    }
    lines = [f"{key} = {value!r}\n" for key, value in settings.items()]
    (source / "siteconf.py").write_text("".join(lines))
    run([*pip, "install", *here, "--upgrade", "--target", target, source])


def cuda_headers():
    """Return the folder of ``cuda.h`` in NVIDIA's packages."""
    found = find_spec("nvidia")
    for root in found.submodule_search_locations or () if found else ():
        for header in sorted(Path(root).glob("*/include/cuda.h"), reverse=True):
            return header.parent
    raise CannotBuildError("no cuda.h in the packages of NVIDIA that torch brings")


def run(command):
    """Run a command; its last lines are the reason where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(f"{done.stdout}\n{done.stderr}".split())
        raise CannotBuildError(f"{Path(command[0]).name} failed: ...{said[-600:]}")


def main(target):
    """Build, unless pycuda is there; ``TARGET/installed`` says that nothing is left to do."""
    try:
        if find_spec("pycuda") is None:
            with tempfile.TemporaryDirectory() as folder:
                build(Path(folder), target)
    except CannotBuildError as error:
        sys.stdout.write(f"pycuda is not built, so its tests run on a fake of it: {error}\n")
    else:
        Path(target).mkdir(exist_ok=True)
        Path(target, "installed").write_text(f"{PYCUDA}\n")


if __name__ == "__main__":
    main(sys.argv[1])
