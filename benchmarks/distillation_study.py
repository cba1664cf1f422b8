r"""Study what distillation is worth: tuned alike, tested once, by seed, at equal steps and time.

Pack the frames of a data set into one file of some 15 MB, which is all that a study needs besides
the project and its checkpoints:

    edgedetr data synth data/study --frames 2000 --seed 2000
    python benchmarks/distillation_study.py pack synth data/study --out packs/synth.npz
    python benchmarks/distillation_study.py pack road ../shared/data/road_objects \
        --out packs/road.npz

Train, as often as there is time: what stands in the records is not trained again, and no run
begins that would not end in the minutes given. Copy the records back after each call; they may be
joined by joining the files. Several processes share a GPU (``nvidia-cuda-mps-control -d`` lets them
compute side by side), which keeps it busy: a single small network does not.

    python benchmarks/distillation_study.py run --pack packs/synth.npz packs/road.npz \
        --device cuda --workers 14 --minutes 9 --records records.jsonl

    python benchmarks/distillation_study.py report --records records.jsonl \
        --out benchmarks/results/study.json

Each data set is split in three: images to train on, a tuning split, and a test split that each run
is scored on once, at its last step, by the moving average of its weights. Every arm of a pair is
tuned by as many tries, `none` and `fgd` too. Where an arm trains twice as long, that is at least as
much time as the others take; `training_seconds` says how much it was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from edgedetr.bench.result_file import write_result
from edgedetr.bench.study.frames import Part, pack, splits_of
from edgedetr.bench.study.pairs import PAIRS, SOURCES
from edgedetr.bench.study.plan import Pair, shortened
from edgedetr.bench.study.pool import check_records, read_records, run_study
from edgedetr.bench.study.report import report
from edgedetr.bench.study.workshop import Study
from edgedetr.distill.data import open_dataset
from edgedetr.runtime.errors import EdgeDetrError, UsageError

ROOT = Path(__file__).parents[1]

MEASURES = (
    "benchmarks/edgedetr/bench/study/frames.py",
    "benchmarks/edgedetr/bench/study/training.py",
    "distill/edgedetr/distill/losses/least_squares.py",
    "distill/edgedetr/distill/training/adapters.py",
    "distill/edgedetr/distill/weights/inheritance.py",
    "distill/edgedetr/distill/methods",
    "distill/edgedetr/distill/losses/feature_levels.py",
    "distill/edgedetr/distill/losses/distillation_points.py",
)
"""What makes these figures: records of other states of it are not mixed, and figures go stale."""


def main() -> None:
    """Pack frames, train, or report."""
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments)
    except EdgeDetrError as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    packs = commands.add_parser("pack")
    packs.add_argument("name", choices=SOURCES)
    packs.add_argument("folder", type=Path)
    packs.add_argument("--out", type=Path, required=True, help="NAME.npz")
    packs.set_defaults(command=pack_frames)
    runs, reports = commands.add_parser("run"), commands.add_parser("report")
    runs.add_argument("--pack", type=Path, nargs="+", required=True, help="named by the data set")
    runs.add_argument("--device", default="cpu")
    runs.add_argument("--workers", type=int, default=1)
    runs.add_argument("--minutes", type=float, required=True)
    runs.add_argument("--variants", type=int, default=6, help="augmented copies of each image")
    runs.set_defaults(command=run)
    reports.add_argument("--out", type=Path, required=True)
    reports.set_defaults(command=write_report)
    for command in (runs, reports):
        command.add_argument("--records", type=Path, required=True)
        command.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
        command.add_argument("--arms", nargs="+")
        command.add_argument("--scale", type=float, default=1.0, help="factor of all steps")
    return parser


def pack_frames(arguments: argparse.Namespace) -> None:
    """Pack one data set."""
    source = SOURCES[arguments.name]
    train, val = (
        open_dataset(source.format, arguments.folder, split, source.spec.class_names)
        for split in ("train", "val")
    )
    fit, tune = splits_of(len(train), source.tune_every)
    parts = {
        "train": Part(train, fit),
        "tune": Part(train, tune),
        "test": Part(val, range(len(val))),
    }
    pack(arguments.out, parts, source.spec)


def run(arguments: argparse.Namespace) -> None:
    """Train until all is done or time is over."""
    begun = time.monotonic()
    packs = {path.stem: path for path in arguments.pack}
    with tempfile.TemporaryDirectory() as work:
        study = Study(
            pairs={n: p for n, p in _pairs(arguments).items() if p.data in packs},
            packs=packs,
            root=ROOT,
            work=Path(work),
            variants=arguments.variants,
            until=begun + 60 * arguments.minutes,
            device=arguments.device,
            code=code_digest(ROOT),
        )
        if not study.pairs:
            raise UsageError(
                f"no pair of {', '.join(arguments.pairs)} learns from {', '.join(packs)}; "
                f"packs are named by their data, such as {next(iter(SOURCES))}.npz"
            )
        run_study(
            study,
            arguments.records,
            arguments.workers,
            lambda line: print(f"{time.monotonic() - begun:6.1f} s  {line}", flush=True),
        )


def write_report(arguments: argparse.Namespace) -> None:
    """Write the report of the records."""
    pairs, records = _pairs(arguments), read_records(arguments.records)
    pairs = {name: pair for name, pair in pairs.items() if any(key[0] == name for key in records)}
    if not pairs:
        raise UsageError(f"{arguments.records} has no run of {', '.join(arguments.pairs)}")
    check_records(pairs, records, code_digest(ROOT))
    devices = sorted({record["device"] for record in records.values()})
    write_result(arguments.out, {"devices": devices, **report(pairs, records)}, MEASURES)


def code_digest(root: Path) -> str:
    """Return a digest of the code that trains, `MEASURES`."""
    digest = hashlib.sha256()
    for name in MEASURES:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _pairs(arguments: argparse.Namespace) -> dict[str, Pair]:
    return {
        name: shortened(PAIRS[name], arguments.scale, arguments.arms) for name in arguments.pairs
    }


if __name__ == "__main__":
    main()
