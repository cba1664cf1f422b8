"""A package's model card: Markdown that begins with the metadata block of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.runtime.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgedetr.export.package.facts import DataSet, Figure, PackageFacts

_METRICS = {"AP", "AP50"}
"""Figures that the metadata block names; the others stand in the table alone."""


def model_card(facts: PackageFacts) -> str:
    """Write the card of a package: what it is, what was measured, on what, and what it is for."""
    height, width = facts.spec.input_hw
    classes = ", ".join(map(_text, facts.spec.class_names))
    sections = [
        f"# {_text(facts.name)}",
        f"An object detector for {width} x {height} pixels that finds: {classes}. It ships as a "
        "package of EdgeDETR, whose reader checks every file before it uses one.",
        "## Models\n\n" + _models(facts),
        "## Accuracy and cost\n\n" + _accuracy(facts),
        "## Data\n\n" + _data(facts.data_sets),
        "## Checks before it was packed\n\n" + _list(facts.manifest.gates),
        "## Where it comes from\n\n" + _origin(facts),
        "## Use and limits\n\n"
        "Detections are a basis for decisions, not decisions. The figures hold for frames like "
        "those they were measured on: another camera, place, weather or class needs an evaluation "
        "of its own. Boxes are 2-D, in pixels of the camera's image.",
        "## Licence\n\n" + _licenses(facts.model_licenses),
    ]
    return _metadata(facts) + "\n\n".join(sections) + "\n"


def _metadata(facts: PackageFacts) -> str:
    """Return the YAML block; every text in it is quoted as JSON, which YAML contains."""
    precisions = sorted({model.precision for model in facts.manifest.models})
    lines = ["---", "library_name: edgedetr", "pipeline_tag: object-detection"]
    lines += ["tags:", *(f"- {tag}" for tag in ("detr", "onnx", *precisions))]
    if facts.model_licenses:
        lines += ["license: other", f"license_name: {json.dumps(facts.model_licenses[0])}"]
    measured = [data for data in facts.data_sets if data.role == "evaluation"]
    results = [_results(name, figures, measured) for name, figures in facts.figures.items()]
    if measured and any(results):
        lines += ["model-index:", *(line for result in results for line in result)]
    return "\n".join([*lines, "---", "", ""])


def _results(name: str, figures: Sequence[Figure], data: Sequence[DataSet]) -> list[str]:
    """Return the lines of the metadata about one model."""
    chosen = [f for f in figures if f.name in _METRICS and not f.class_name]
    if not chosen or not data:
        return []
    lines = [f"- name: {json.dumps(Path(name).name)}", "  results:", "  - task:"]
    lines += ["      type: object-detection", "    dataset:"]
    lines += [f"      name: {json.dumps(data[0].name)}"]
    lines += [f"      type: {json.dumps(data[0].details.get('format', 'other'))}", "    metrics:"]
    for figure in chosen:
        lines += [f"    - type: {json.dumps(figure.name.lower())}", f"      name: {figure.name}"]
        lines += [f"      value: {figure.value:.4f}"]
    return lines


def _text(text: str) -> str:
    """Put a foreign text on one line in which no Markdown and no HTML has a meaning."""
    return re.sub(r"([\\`*_{}\[\]()#|<>&!~])", r"\\\1", printable(text))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines) or "None."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _models(facts: PackageFacts) -> str:
    rows = [
        (_text(model.name), model.kind, model.precision, f"`{facts.hashes[model.name]}`")
        for model in facts.manifest.models
    ]
    return _table(("file", "kind", "precision", "SHA-256"), rows)


def _accuracy(facts: PackageFacts) -> str:
    if not facts.figures:
        return "The package holds no report.json: accuracy and cost were not measured."
    rows = [
        (_text(Path(name).name), figure.name, _text(figure.class_name), f"{figure.value:.4g}")
        for name, figures in facts.figures.items()
        for figure in figures
    ]
    return _table(("model", "figure", "class", "value"), rows)


def _data(data_sets: Sequence[DataSet]) -> str:
    if not data_sets:
        return "No report in the package names the data."
    rows = [
        (data.role, _text(data.name), _text("; ".join(f"{k} {v}" for k, v in data.details.items())))
        for data in data_sets
    ]
    return _table(("used for", "data", "details"), rows)


def _origin(facts: PackageFacts) -> str:
    starts = [f"begins at the {s.kind} {s.name}, SHA-256 {s.sha256}" for s in facts.chain.starts]
    steps = [f"{name}: {origin.command}" for name, origin in facts.origins.items()]
    return _list([*starts, *steps])


def _licenses(names: Sequence[str]) -> str:
    if not names:
        return (
            "No licence of the model's weights came with it: ask its maker. The code that made "
            "and reads the package is under Apache-2.0."
        )
    return "The model's licence is in " + ", ".join(f"`{name}`" for name in names) + "."
