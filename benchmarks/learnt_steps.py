"""Measure what learnt steps add to training for INT8, on the demo's student.

    python benchmarks/learnt_steps.py --student runs/demo/student.safetensors --data data/synth

Writes ``benchmarks/results/learnt_steps.json``. Over several seeds the student is trained on with
``distill/configs/synth_qat.toml`` for an epoch, as INT8 at every point that may be quantized, with
the steps of calibration and with learnt ones. AP is that of the exported graph, which computes
every Q/DQ pair as it is written, on the validation split; what is not INT8 is FP32.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import click

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.calib.collect import collect
from edgedetr.calib.frames import choose_frames, kitti_images
from edgedetr.distill import recipe
from edgedetr.distill.config import load_config
from edgedetr.distill.weights.checkpoint import load_model
from edgedetr.export import qat
from edgedetr.export.search.trial import Trial, labelled_scenes
from edgedetr.export.to_onnx import export_onnx
from edgedetr.export.to_qdq import export_qdq
from edgedetr.export.transforms.quantize import quantize
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.manifest import versions_of

if TYPE_CHECKING:
    from edgedetr.export.search.trial import Effect

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "distill" / "configs" / "synth_qat.toml"
PATH = click.Path(path_type=Path)
LAST_STEPS = 30
ARMS = {"steps of calibration": "false", "learnt steps": "true"}
PACKAGES = ("edgedetr", "torch", "onnx", "onnxruntime")

MEASURES = (
    "distill/configs/synth_qat.toml",
    "distill/edgedetr/distill/networks/fake_quantization.py",
    "distill/edgedetr/distill/networks/learnt_steps.py",
    "distill/edgedetr/distill/training/qat.py",
    "export/edgedetr/export/transforms/stored_ranges.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--student", type=PATH, required=True, help="The demo's student.safetensors.")
@click.option("--data", type=PATH, required=True, help="The demo's frames.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of the config.")
@result_option(__file__)
def main(student: Path, data: Path, seeds: int, overrides: tuple[str, ...], out: Path) -> None:
    """Train, export and measure."""
    settings = [f"data.root={data}", f"student.init={student}", "epochs=1", "qat.include=."]
    settings += overrides
    config = load_config(CONFIG, settings)
    scenes = labelled_scenes(data, config.data.classes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = folder / "student.onnx"
        export_onnx(student, before)
        stats = collect(before, choose_frames(kitti_images(data), config.qat.frames))
        with Trial(load_onnx(before), load_model(student).spec, scenes) as trial:
            calibrated = quantize(load_onnx(before), stats, config.qat.include)
            record: dict[str, Any] = {
                "frames": {"validation": len(trial), "calibration": config.qat.frames},
                "fp32_ap": trial.ap,
                "calibrated": _figures(trial.effect(calibrated, "calibrated")),
            }
            found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
            for seed in range(seeds):
                for arm, learns in ARMS.items():
                    run = folder / f"{learns}{seed}"
                    given = [*settings, f"qat.learn_steps={learns}", f"seed={seed}"]
                    effect = trial.effect(load_onnx(_trained(run, given)), arm)
                    found[arm].append({**_figures(effect), "last_loss": _last_loss(run)})
                    click.echo(f"{arm}, seed {seed}: {found[arm][-1]}")
                record["trained"] = {arm: summed(runs) for arm, runs in found.items()}
                record |= {"config": config.record(), "versions": versions_of(PACKAGES)}
                write_result(out, record, MEASURES)  # after each seed: a run takes minutes
    click.echo(json.dumps({k: v for k, v in record.items() if k != "config"}, indent=2))


def _trained(folder: Path, settings: list[str]) -> Path:
    """Train the student on; return its INT8 graph."""
    config = load_config(CONFIG, settings)
    recipe.train(config, folder, "python benchmarks/learnt_steps.py", qat.calibrated)
    plain, int8 = folder / "student.onnx", folder / "student.int8.onnx"
    export_onnx(folder / "student.safetensors", plain)
    export_qdq(plain, None, int8, rest="fp32")
    return int8


def _figures(effect: Effect) -> dict[str, Any]:
    """Return AP in points of per cent, and how far detections are from those of before."""
    figures = effect.figures
    return {
        "ap": effect.ap,
        "mean_score_error": figures.mean_score_error,
        "p99_box_error_px": figures.p99_box_error_px,
    }


def _last_loss(run: Path) -> float:
    """Return the mean loss of the last steps, which all arms of a seed take on the same batches."""
    lines = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    losses: list[float] = [line["loss"] for line in lines if line["kind"] == "step"]
    return mean(losses[-LAST_STEPS:])


def summed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs of an arm with the mean and the spread of their AP."""
    aps = [figures["ap"] for figures in runs]
    spread = stdev(aps) if len(aps) > 1 else 0.0
    return {"seeds": runs, "mean_ap": mean(aps), "stdev_ap": spread}


if __name__ == "__main__":
    main()
