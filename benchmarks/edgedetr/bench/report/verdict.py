"""The summary of a report: what was made, and whether it passes its gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.bench.report.contents import Verdict
from edgedetr.bench.report.table import factor, share
from edgedetr.pages.rendering import Tile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgedetr.bench.report.contents import ModelReport, ParityResult, Report, Word
    from edgedetr.export.search.coverage_record import CoverageRecord


def verdict(
    parity: Sequence[ParityResult],
    coverage: Sequence[CoverageRecord],
    models: Sequence[ModelReport] = (),
) -> Verdict:
    """Judge a run by its gates: the worst of them counts.

    Args:
        parity: Every comparison of two of its models.
        coverage: Every search for INT8 coverage. One that found too little counts as a failed gate:
            an INT8 model was wanted and there is none.
        models: The measured models. INT8 that is no faster is told, and fails nothing: another
            device may run it.
    """
    said = [_of_comparison(check) for check in parity] + [_of_search(record) for record in coverage]
    words = {word for word, _ in said}
    order: tuple[Word, ...] = ("failed", "undecided", "passed", "not compared")
    worst = next((word for word in order if word in words), order[-1])
    reasons = tuple(reason for _, reason in said if reason)
    reasons = reasons if said else ("Nothing was compared: run edgedetr verify.",)
    return Verdict(worst, (*reasons, *_slow_int8(models)))


def _slow_int8(models: Sequence[ModelReport]) -> Iterator[str]:
    """Name the INT8 models that are no faster than a float one of the same name, in what ran them.

    The name is what stands before the first dot: ``student`` of ``student.int8``.
    """
    for int8 in (m for m in models if m.precision == "int8"):
        name = int8.name.partition(".")[0]
        floats = [m for m in models if m.precision != "int8" and m.name.partition(".")[0] == name]
        best = min(floats, key=_model_ms, default=None)
        if best and _model_ms(best) <= _model_ms(int8):
            library = int8.ran_on.partition(",")[0]
            yield (
                f"{int8.name} is not worth it in {library}: "
                f"{_model_ms(best) / _model_ms(int8):.2f}x the speed of {best.name}."
            )


def _model_ms(model: ModelReport) -> float:
    """Return the median time of the network alone."""
    return model.model_latency.p50_ms


def _of_comparison(check: ParityResult) -> tuple[Word, str]:
    if check.word == "passed":
        return "passed", ""
    if check.word == "not compared":
        return (
            "not compared",
            f"{check.models}: nothing to compare, because neither finds anything.",
        )
    reason = check.figures.get("reason") or f"see {check.name}"
    return check.word, f"{check.models}: {check.word}: {reason}"


def _of_search(record: CoverageRecord) -> tuple[Word, str]:
    if record.nothing_to_compare:
        return "not compared", (
            f"{record.int8} was not made: {record.model} finds nothing in the frames, so "
            "there is nothing to compare."
        )
    share = f"{record.coverage:.1%} of the multiply-accumulates"
    if not record.is_worth_it:
        return "failed", f"INT8 is not worth it here: {record.said or share}."
    rest = [block.name for block in record.blocks if block.name not in record.chosen]
    return "passed", (
        f"{record.int8} has {share} in INT8; kept in {record.rest.upper()}: {_listed(rest)}."
        if rest
        else ""
    )


def headline(report: Report) -> str:
    """Describe the students in a sentence, from the settings of the training run."""
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
        how += ", initialised with a selection of its weights"
    return (
        f"A {student['family']} {student['preset']} student for {width} x {height} px, {how}: "
        f"{config['epochs']} epochs on the {data['train_split']} split of {data['root']}."
    )


def tiles(report: Report) -> list[Tile]:
    """Return accuracy, speed and size beside the teacher; nothing without a teacher."""
    teacher = report.teacher
    if teacher is None:
        return []
    return [
        _beside(report, "Accuracy kept", lambda m: share(m.ap, teacher.ap), "of the teacher's AP"),
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


def _beside(
    report: Report, question: str, compare: Callable[[ModelReport], str], of_what: str
) -> Tile:
    """Compare the last student, the smallest; the detail has the others."""
    *others, last = report.students
    rest = ", ".join(f"{m.name}: {compare(m) or 'not defined'}" for m in others)
    detail = f"{of_what}, by {last.name}" + (f" ({rest})" if rest else "")
    return Tile(question, compare(last) or "not defined", detail)


def _speed(value: float, reference: float) -> str:
    return factor(value, reference).replace("less", "faster").replace("more", "slower")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
