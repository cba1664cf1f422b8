"""The report in a few words: what was made, and whether it is any good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.bench.report.table import factor, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedetr.bench.report.contents import ModelReport, Report


@dataclass(frozen=True)
class Tile:
    """One answer.

    Attributes:
        question: What is answered.
        answer: In a word or a figure.
        detail: What stands behind it.
        state: ``good``, ``bad`` or ``plain``.
    """

    question: str
    answer: str
    detail: str
    state: str = "plain"


def headline(report: Report) -> str:
    """Say what was made, from the settings of the training run."""
    config = report.made_by
    if config is None:
        names = _listed([m.name for m in report.models])
        return f"{names}, measured on {report.data.frames} frames of {report.data.root}."
    student, data = config["student"], config["data"]
    height, width = student["input_hw"]
    names = " and ".join(config["methods"])
    teacher = Path(config["teacher"]).stem
    how = (
        "trained without a teacher" if names == "none" else f"distilled from {teacher} with {names}"
    )
    if student.get("inherit"):
        how += " after taking over a selection of its weights"
    return (
        f"A {student['family']} {student['preset']} student for {width} x {height} px, {how}: "
        f"{config['epochs']} epochs on the {data['train_split']} split of {data['root']}."
    )


def tiles(report: Report) -> list[Tile]:
    """Answer the questions that a reader has first; without a teacher only those about checks."""
    answers = [_parity(report)]
    if report.teacher is not None:
        teacher = report.teacher
        answers += [
            _beside(
                report, "Accuracy kept", lambda m: share(m.ap, teacher.ap), "of the teacher's AP"
            ),
            _beside(
                report,
                "Speed",
                lambda m: _speed(m.latency.p50_ms, teacher.latency.p50_ms),
                "against the teacher, median end to end",
            ),
            _beside(
                report,
                "Size",
                lambda m: share(m.file_mib, teacher.file_mib),
                "of the bytes of the teacher's file",
            ),
        ]
    return answers


def _parity(report: Report) -> Tile:
    question = "Same answers after conversion"
    if not report.parity:
        return Tile(question, "not checked", "edgedetr verify was not run")
    failed = [p.models for p in report.parity if not p.passed]
    if failed:
        return Tile(question, "failed", _listed(failed), "bad")
    checked = _listed([p.models for p in report.parity])
    return Tile(question, "passed", checked, "good")


def _beside(
    report: Report, question: str, compare: Callable[[ModelReport], str], of_what: str
) -> Tile:
    """Answer for the last student, the smallest; the others stand in the detail."""
    *others, last = report.students
    rest = ", ".join(f"{m.name}: {compare(m) or 'not defined'}" for m in others)
    detail = f"{of_what}, by {last.name}" + (f" ({rest})" if rest else "")
    return Tile(question, compare(last) or "not defined", detail)


def _speed(value: float, reference: float) -> str:
    return factor(value, reference).replace("less", "faster").replace("more", "slower")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
