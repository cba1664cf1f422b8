"""What docs/distillation.md says of the study: benchmarks/results/study.json as tables."""

from __future__ import annotations

from typing import Any

from edgedetr.bench.result_file import age


def study_section(found: dict[str, Any]) -> list[str]:
    """Return the lines on how arms were compared, and a table of each pair.

    Args:
        found: What ``benchmarks/distillation_study.py report`` wrote.
    """
    machine = found["machine"]
    lines = [
        "## The study: tuned alike, tested once",
        "",
        f"`{found['command']}`",
        "",
        f"{machine['processor']}, {machine['cores']} cores{age(found)}. The learning rate, and the",
        "weight of a method's losses, are chosen on a tuning split by as many tries for every arm;",
        "arms of another length take over the tuning. Each seed is scored once on a test split, at",
        "the last step, by the moving average of the weights. A gain is paired by seed; P is the",
        "probability that it is above zero, by Student's t.",
        "",
    ]
    for pair in found["pairs"].values():
        lines += _pair(pair)
    return lines


def _pair(pair: dict[str, Any]) -> list[str]:
    references = dict.fromkeys(r for gains in pair["gain"].values() for r in gains)
    head = ["arm", "steps", "learning rate", "AP (%), each seed", "mean"]
    head += [f"over {name}" for name in references]
    return [
        f"{pair['student']} of {pair['teacher']} (AP {pair['teacher_ap']:.1f} on the test split),",
        f"batches of {pair['batch']}:",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(
            f"| {' | '.join([*_arm(name, arm), *_gains(pair, name, references)])} |"
            for name, arm in pair["arms"].items()
        ),
        "",
        "AP (%) on the tuning split in the course of training, mean of the seeds:",
        *(f"{name} {_curve(arm)};" for name, arm in pair["arms"].items()),
        "",
    ]


def _arm(name: str, arm: dict[str, Any]) -> list[str]:
    scores = ", ".join(f"{ap:.1f}" for ap in arm["ap"])
    return [name, f"{arm['steps']}", f"{arm['learning_rate']:g}", scores, f"**{arm['mean']:.1f}**"]


def _gains(pair: dict[str, Any], name: str, references: dict[str, None]) -> list[str]:
    gains = pair["gain"].get(name, {})
    return [_gain(gains[other]) if other in gains else "" for other in references]


def _gain(gain: dict[str, Any]) -> str:
    if gain["low"] is None:
        return "" if gain["mean"] is None else f"{gain['mean']:+.1f} (one seed)"
    interval = f"{gain['low']:+.1f} to {gain['high']:+.1f}"
    return f"{gain['mean']:+.1f} ({interval}), P {gain['probability']:.3f}"


def _curve(arm: dict[str, Any]) -> str:
    return ", ".join(f"{ap:.1f} at {step:.0f}" for step, ap in arm["curve_on_tuning_split"])
