"""Run the demo's models on real KITTI frames: parity, INT8 against FP32, and a camera stream.

    python benchmarks/real_frames.py --data ../shared/data --out benchmarks/results/real_frames.json

The models have only seen rendered scenes and the frames are few: their AP here is no claim. What
counts is that every stage takes real frames and that the stages agree on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgedetr.bench.result_file import write_result

ROOT = Path(__file__).parents[1]
RUN = ROOT / "runs" / "demo"
TEACHER = ROOT / "distill" / "checkpoints" / "synth_teacher.safetensors"

MEASURES = (
    "distill/configs/synth.toml",
    "calib/edgedetr/calib/collect.py",
    "calib/edgedetr/calib/histogram.py",
    "calib/edgedetr/calib/scales.py",
    "export/edgedetr/export/transforms/trained_ranges.py",
    "export/edgedetr/export/transforms/qdq_nodes.py",
    "export/edgedetr/export/to_qdq.py",
    "export/edgedetr/export/transforms/quantize.py",
)
"""What makes these figures: once it changes, they are stale."""


def main() -> None:
    """Run the commands and keep what they wrote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    frames = arguments.data / "kitti" / "training" / "image_2"
    labels = arguments.data / "kitti" / "training" / "label_2"
    stream = arguments.data / "kitti_stream"
    fp32, int8 = RUN / "student.onnx", RUN / "student.int8.onnx"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = {
            "student_torch_to_onnx": _verify(RUN / "student.safetensors", fp32, frames, folder),
            "teacher_torch_to_onnx": _verify(TEACHER, RUN / "teacher.onnx", frames, folder),
            "student_onnx_to_int8": _verify(fp32, int8, frames, folder),
            "stream_onnx_to_int8": _verify(fp32, int8, stream, folder),
            "kitti": {m.name: _kitti(m, frames, labels, folder) for m in (fp32, int8)},
            "stream_frames": {m.name: _detect(m, stream, folder / "stream") for m in (fp32, int8)},
        }
    write_result(arguments.out, record, MEASURES)


def _verify(reference: Path, candidate: Path, images: Path, folder: Path) -> dict[str, Any]:
    out = folder / "verify.json"
    _run("verify", str(reference), str(candidate), "--images", str(images), "--json", str(out))
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {k: v for k, v in found.items() if k not in {"command", "reference", "candidate"}}


def _kitti(model: Path, images: Path, labels: Path, folder: Path) -> dict[str, Any]:
    found, out = folder / model.stem, folder / "kitti.json"
    frames = _detect(model, images, found)
    _run(
        *("evaluate", "kitti", "--labels", str(labels)),
        *("--detections", str(found), "--json", str(out)),
    )
    scores = json.loads(out.read_text(encoding="utf-8"))
    return {"frames": frames, "AP40": scores["AP40"]}


def _detect(model: Path, images: Path, folder: Path) -> int:
    _run("detect", str(model), "--images", str(images), "--out", str(folder), "--no-overlays")
    return len(list(folder.glob("*.txt")))


def _run(*arguments: str) -> None:
    """Run a command; a gate that does not hold is kept in its JSON and does not stop the rest."""
    edgedetr = Path(sys.executable).with_name("edgedetr")
    done = subprocess.run([edgedetr, *arguments], check=False, capture_output=True, text=True)  # noqa: S603
    print(done.stdout + done.stderr)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()
