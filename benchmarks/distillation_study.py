r"""Study what distillation is worth: tuned alike, tested once, by seed, at equal steps and time.

    edgedetr data synth runs/study/synth --frames 2000 --seed 2000
    python benchmarks/distillation_study.py pack synth runs/study/synth --into runs/study
    python benchmarks/distillation_study.py pack road PATH/road_objects --into runs/study
    python benchmarks/distillation_study.py run --data runs/study --workers 2 --minutes 600
    python benchmarks/distillation_study.py report --data runs/study \\
        --out benchmarks/results/distillation_study.json

Each data set is split in three: images to train on, a tuning split, and a test split that each run
is scored on once, at its last step. Every arm of a pair is tuned by as many tries, `none` and `fgd`
too. A study that was stopped goes on where it was; runs on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from edgedetr.bench.study.frames import Part, pack, splits_of
from edgedetr.bench.study.pairs import DATA, PAIRS
from edgedetr.bench.study.plan import shortened
from edgedetr.bench.study.pool import Study, run_study
from edgedetr.distill.data import open_dataset
from edgedetr.runtime.errors import EdgeDetrError

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Pack frames, train, or report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    commands = parser.add_subparsers(required=True)
    packs = commands.add_parser("pack")
    packs.add_argument("name", choices=DATA)
    packs.add_argument("folder", type=Path)
    packs.add_argument("--into", type=Path, required=True)
    packs.set_defaults(command=pack_frames)
    runs = commands.add_parser("run")
    runs.add_argument("--data", type=Path, required=True)
    runs.add_argument("--records", type=Path)
    runs.add_argument("--root", type=Path, default=ROOT)
    runs.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    runs.add_argument("--arms", nargs="+")
    runs.add_argument("--workers", type=int, default=2)
    runs.add_argument("--variants", type=int, default=6)
    runs.add_argument("--minutes", type=float, required=True)
    runs.add_argument("--scale", type=float, default=1.0, help="factor of all steps")
    runs.set_defaults(command=run)
    arguments = parser.parse_args()
    try:
        arguments.command(arguments)
    except EdgeDetrError as error:
        sys.exit(str(error))


def pack_frames(arguments: argparse.Namespace) -> None:
    """Pack one data set."""
    about = DATA[arguments.name]
    train, val = (
        open_dataset(about.format, arguments.folder, split, about.spec.class_names)
        for split in ("train", "val")
    )
    fit, tune = splits_of(len(train), about.tune_every)
    parts = {
        "train": Part(train, fit),
        "tune": Part(train, tune),
        "test": Part(val, range(len(val))),
    }
    arguments.into.mkdir(parents=True, exist_ok=True)
    pack(arguments.into / f"{arguments.name}.npz", parts, about.spec)


def run(arguments: argparse.Namespace) -> None:
    """Train until all is done or time is over."""
    until = time.monotonic() + 60 * arguments.minutes
    pairs = {
        name: shortened(PAIRS[name], arguments.scale, arguments.arms) for name in arguments.pairs
    }
    study = Study(pairs, arguments.data, arguments.root, arguments.variants, until)
    begun = time.monotonic()
    run_study(
        study,
        arguments.records or arguments.data / "runs.jsonl",
        arguments.workers,
        lambda line: print(f"{time.monotonic() - begun:6.1f} s  {line}", flush=True),
    )


if __name__ == "__main__":
    main()
