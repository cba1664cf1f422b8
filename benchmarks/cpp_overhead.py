r"""Measure what the generated C++ program adds to the bare network, for a model like D-FINE-N.

    python benchmarks/cpp_overhead.py --images ../shared/data/kitti/training/image_2 \
        --onnxruntime-root onnxruntime-linux-x64

Writes ``benchmarks/results/cpp_overhead.json``; exit status 1 where the ratio is above its limit.
Needs CMake, a C++ compiler, OpenCV and OpenSSL; docs/deploy-cpp.md names them. The weights are
random: they do not change the time. Bare session and detector take turns on every frame of one run,
so a busy machine slows both alike.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.export.deploy.cpp import write_program
from edgedetr.export.package.keys import keygen, public_path
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.spec import ModelSpec
from latency_overhead import write_model

SPEC = ModelSpec((384, 1248), ("Car", "Pedestrian", "Cyclist"))
LIMIT = 1.05

MEASURES = ("export/edgedetr/export/deploy",)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--onnxruntime-root", type=click.Path(path_type=Path), required=True)
@result_option(__file__)
def main(images: Path, onnxruntime_root: Path, out: Path) -> None:
    """Build, measure and write the figures; exit 1 where the overhead is above its limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "d_fine_nano.onnx"
        write_model(model)
        keygen(folder / "key", "")
        package(Contents((model,), references=(model,)), folder / "p.tar", folder / "key")
        write_program(SPEC, folder / "program")
        build = folder / "program" / "build"
        root = f"-DONNXRUNTIME_ROOT={onnxruntime_root.resolve()}"
        _run("cmake", "-S", folder / "program", "-B", build, root)
        _run("cmake", "--build", build)
        key = public_path(folder / "key")
        said = _run(build / "edgedetr_detect", folder / "p.tar", key, images, "--time")
    found = re.fullmatch(r"(\d+) frames: detect ([\d.]+) ms, network alone ([\d.]+) ms\n", said)
    if not found:
        raise click.ClickException(f"the program printed {said!r}")
    detect_ms, network_ms = float(found[2]), float(found[3])
    figures = {
        "frames": int(found[1]),
        "detect_p50_ms": detect_ms,
        "bare_p50_ms": network_ms,
        "overhead_ratio": round(detect_ms / network_ms, 4),
        "limit": LIMIT,
    }
    write_result(out, figures, MEASURES)
    click.echo(json.dumps(figures, indent=2))
    sys.exit(detect_ms / network_ms > LIMIT)


def _run(*command: str | Path) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout  # noqa: S603


if __name__ == "__main__":
    main()
