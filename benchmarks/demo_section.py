"""What README says of the demo: medians and ranges over benchmarks/results/demo_variations.json."""

from __future__ import annotations

from typing import Any

from edgedetr.bench.result_file import age

COLUMNS = (
    "model",
    "run by",
    "parameters (M)",
    "GFLOPs",
    "file (MiB)",
    "AP",
    "AP50",
    "KITTI AP40 moderate, Car (%)",
    "p50 (ms)",
    "p50 of the teacher's",
    "p99 (ms)",
    "agreement with teacher",
)
_DIGITS = {
    "ap": 3,
    "ap50": 3,
    "kitti_car": 1,
    "p50": 1,
    "latency_ratio": 2,
    "p99": 1,
    "agreement_with_teacher": 3,
}
"""Figures of a model that differ from run to run, in the order of the columns."""


def demo_section(found: dict[str, Any]) -> list[str]:
    """Return the lines on time, and the table of the models.

    Args:
        found: What benchmarks/demo_variations.py wrote.
    """
    summary, machine = found["summary"], found["machine"]
    fullest = max(found["runs"].values(), key=lambda run: len(run["models"]))
    return [
        f"`make demo` on {machine['processor']}, {machine['cores']} cores, no GPU{age(found)}:",
        f"{spread(summary['seconds'], 0)} s after the install,",
        f"{spread(summary['training_seconds'], 0)} s of them training: median (and range) of",
        f"{summary['runs']} runs that differ in seed, instruction set or threads, of which",
        f"{summary['green']} passed every gate. INT8 has {_coverage(summary)}",
        "of the multiply-accumulates. AP on held-out rendered frames;",
        "latency end to end on the CPU, each model in what `--backend auto` chooses for it;",
        "TensorRT has not been measured yet.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(
            f"| {' | '.join(_row(model, summary['models'][model['name']]))} |"
            for model in fullest["models"]
        ),
    ]


def spread(figure: dict[str, float] | None, digits: int) -> str:
    """Write a median with its range, or the one value that all runs have.

    >>> spread({"median": 0.45, "min": 0.4, "max": 0.5, "runs": 3}, 2)
    '0.45 (0.40 to 0.50)'
    >>> spread({"median": 0.611, "min": 0.611, "max": 0.612, "runs": 3}, 2)
    '0.61'
    """
    if figure is None:
        return "not defined"
    middle, low, high = (f"{figure[key]:.{digits}f}" for key in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _coverage(summary: dict[str, Any]) -> str:
    percent = {key: 100 * value for key, value in summary["int8_coverage"].items()}
    return f"{spread(percent, 0)} %"


def _row(model: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    return [
        f"{model['name']} {model['precision']}",
        model["ran_on"].partition(" ")[0],
        f"{model['params_m']:.2f}",
        f"{model['gflops']:.2f}",
        spread(figures["file_mib"], 1),
        *(spread(figures[key], digits) for key, digits in _DIGITS.items()),
    ]
