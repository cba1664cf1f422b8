"""``edgedetr evaluate``."""

from __future__ import annotations

import json
import math
from time import perf_counter_ns
from typing import TYPE_CHECKING

import click

from edgedetr.runtime.commands.options import PATH, format_option, require_apart
from edgedetr.runtime.commands.output import echo
from edgedetr.runtime.files import write_text
from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.distill.evaluation.coco import CocoScores

_FIGURES = click.option(
    "--json", "out", type=PATH, help="Write the figures and curves to this file."
)


@click.group()
def evaluate() -> None:
    """Evaluate detections against labels."""


@evaluate.command()
@click.option("--labels", required=True, type=PATH, help="Folder of KITTI label files.")
@click.option("--detections", required=True, type=PATH, help="Folder of KITTI result files.")
@_FIGURES
def kitti(labels: Path, detections: Path, out: Path | None) -> None:
    """Compute KITTI's AP11 and AP40 of 2-D boxes, over the frames that have a result file."""
    from edgedetr.distill.evaluation.kitti import CLASSES, DIFFICULTIES, evaluate_kitti

    require_apart([out], [])
    start = perf_counter_ns()
    scores = evaluate_kitti(labels, detections)
    seconds = (perf_counter_ns() - start) / 1e9
    if out:
        write_text(out, json.dumps({**scores.as_dict(), "seconds": seconds}))
    echo(f"{'per cent':16}{''.join(f'{name:>10}' for name in DIFFICULTIES)}")
    for rule, table in (("AP11", scores.ap11), ("AP40", scores.ap40)):
        for name, row in zip(CLASSES, table, strict=True):
            echo(f"{rule} {name:11}{''.join(_figure(value, 10) for value in row)}")
    for note in scores.notes:
        echo(printable(note), err=True)
    echo(f"{scores.frames} frames, {scores.detections} detections, {seconds:.1f} s")


@evaluate.command()
@click.option("--truth", required=True, type=PATH, help="COCO annotation file.")
@click.option("--detections", required=True, type=PATH, help="COCO result file.")
@_FIGURES
def coco(truth: Path, detections: Path, out: Path | None) -> None:
    """Compute COCO's AP and AP50 of boxes, by class."""
    from edgedetr.distill.evaluation.coco import evaluate_coco

    require_apart([out], [truth, detections])
    start = perf_counter_ns()
    scores = evaluate_coco(truth, detections)
    seconds = (perf_counter_ns() - start) / 1e9
    if out:
        write_text(out, json.dumps({**scores.as_dict(), "seconds": seconds}))
    _show_coco(scores)


@evaluate.command(name="data")
@click.option("--data", "root", required=True, type=PATH, help="The data set.")
@format_option
@click.option("--split", default="val", show_default=True, help="The split whose labels count.")
@click.option("--detections", required=True, type=PATH, help="Folder that detect --save wrote.")
@_FIGURES
def of_data(root: Path, kind: str | None, split: str, detections: Path, out: Path | None) -> None:
    """Compute COCO's AP of results in any format against labels in any format."""
    from edgedetr.distill.evaluation.saved import evaluate_saved

    require_apart([out], [detections])
    scores = evaluate_saved(root, detections, split, kind)
    if out:
        write_text(out, json.dumps(scores.as_dict()))
    _show_coco(scores)


@evaluate.command()
@click.option("--labels", required=True, type=PATH, help="Folder of KITTI's tracking labels.")
@click.option("--tracks", required=True, type=PATH, help="Folder with a file for each sequence.")
@_FIGURES
def tracks(labels: Path, tracks: Path, out: Path | None) -> None:
    """Compute HOTA, MOTA and IDF1 of tracks, over the sequences that have some.

    A sequence is 0000.txt in KITTI's format, or 0000/frames.jsonl, as edgedetr run --tracker writes
    it with --out.
    """
    from edgedetr.distill.evaluation.tracks import evaluate_tracks

    require_apart([out], [])
    scores = evaluate_tracks(labels, tracks)
    if out:
        write_text(out, json.dumps(scores.as_dict()))
    shown = ("hota", "det_a", "ass_a", "mota", "motp", "idf1")
    heads = ("HOTA", "DetA", "AssA", "MOTA", "MOTP", "IDF1")
    counts = ("hits", "misses", "alarms", "switches")
    echo(f"{'':12}{''.join(f'{head:>10}' for head in (*heads, *counts))}")
    for name, part in scores.classes.items():
        figures = "".join(_figure(getattr(part, key), 10) for key in shown)
        numbers = "".join(f"{getattr(part, key):10}" for key in counts)
        echo(f"{name:12}{figures}{numbers}")
    for note in scores.notes:
        echo(printable(note), err=True)


def _show_coco(scores: CocoScores) -> None:
    """Print AP and AP50 by class."""
    echo(f"{'':16}{'AP':>8}{'AP50':>8}")
    rows = zip(scores.class_names, scores.ap_by_class, scores.ap50_by_class, strict=True)
    for name, ap, ap50 in (*rows, ("mean", scores.ap, scores.ap50)):
        echo(f"{name:16}{_figure(ap, 8)}{_figure(ap50, 8)}")


def _figure(value: float, width: int) -> str:
    """Format a figure; ``-`` where there is none."""
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:{width}.3f}"
