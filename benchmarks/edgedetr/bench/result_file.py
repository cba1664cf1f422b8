"""Write the result of a script in ``benchmarks/``, and check whether it is still valid.

A result names the commit that it was measured at and the paths whose code made the figures. Once
one of them changes, the figures are stale and nothing prints them, until they are measured again or
somebody has reviewed the change and adds one of these to the file:

- ``"still_holds": {"commit": "the last that was judged", "reason": "why it does not matter"}``,
- ``"older_state": "what changed"``; then they are printed as those of the commit that they name.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.errors import ArtifactError, GateError
from edgedetr.runtime.files import read_json, write_text
from edgedetr.runtime.machine import machine_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def result_option(script: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a script the option ``--json``: the file of its result, the argument ``out``.

    Args:
        script: Path of the script; its name is that of the result.
    """
    return click.option(
        "--json",
        "out",
        type=click.Path(path_type=Path),
        default=RESULTS / f"{Path(script).stem}.json",
        help="Where to write the figures; default: benchmarks/results.",
    )


def write_result(path: Path, figures: Mapping[str, Any], measures: Sequence[str]) -> None:
    """Write figures with the command, the machine and the commit, whole or not at all.

    Args:
        path: The JSON file.
        figures: What was measured; a ``machine`` of its own stays.
        measures: Files and folders of the project whose code makes these figures, and nothing
            more: a change of any of them makes the figures stale.

    Raises:
        ValueError: If a path of ``measures`` is not there.
    """
    for name in measures:
        if not (ROOT / name).exists():
            raise ValueError(f"{name} is no path of this project; correct MEASURES")
    script = Path(sys.argv[0])
    name = f"benchmarks/{script.name}" if script.parent.name == "benchmarks" else script.name
    record = {
        "command": shlex.join(["python", name, *sys.argv[1:]]),
        "machine": machine_facts(),
        "measured_at": measured_at(ROOT, measures),
        "measures": list(measures),
        **figures,
    }
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


def measured_at(root: Path, measures: Sequence[str]) -> dict[str, str | bool]:
    """Name the commit of a checkout, and whether the measured code has changes beside it."""
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": "", "dirty": True}
    changes = git(root, "status", "--porcelain", "--", *measures)
    return {"commit": commit, "dirty": changes != ""}


def read_result(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        ArtifactError: If it is damaged, or does not say what it measured at which commit.
    """
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: no result of a benchmark: {error}") from error
    place, judged = found.get("measured_at"), found.get("still_holds")
    if not isinstance(place, dict) or not place.get("commit") or not found.get("measures"):
        raise ArtifactError(f"{path} names no commit or no measured paths; measure again")
    if judged and not (judged.get("commit") and judged.get("reason")):
        raise ArtifactError(f"{path}: 'still_holds' needs the commit that was judged and a reason")
    return found


def printable(path: Path, root: Path = ROOT) -> tuple[dict[str, Any], bool]:
    """Read a result whose figures may be printed.

    Returns:
        The result, and whether git could say that it still holds: without history it cannot.

    Raises:
        ArtifactError: If the file is damaged, or does not say what it measured at which commit.
        GateError: If what it measures changed since.
    """
    found = read_result(path)
    why = "" if found.get("older_state") else staleness(found, root)
    if why:
        raise GateError(
            f"{path.name} is stale: {why}; measure again, or write into it 'still_holds' or "
            "'older_state' and why (see edgedetr.bench.result_file)"
        )
    return found, why is not None


def age(found: dict[str, Any]) -> str:
    """Return the mark behind figures of an older state; empty for others."""
    return f" (at {found['measured_at']['commit'][:7]})" if found.get("older_state") else ""


def staleness(found: dict[str, Any], root: Path = ROOT) -> str | None:
    """Explain why the figures of a result may no longer hold; empty where they do.

    None where that cannot be judged: there is no git, no history, or not enough of it.
    """
    place, judged = found["measured_at"], found.get("still_holds")
    if place["dirty"] and not judged:
        return "it was measured with changes in no commit"
    commit = (judged or place)["commit"]
    if git(root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        return None
    changed = git(root, "diff", "--name-only", commit, "--", *found["measures"])
    if changed is None:
        return None
    names = changed.splitlines()
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more} changed since {commit[:7]}" if names else ""


def git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, without the last line end; None where it fails or is not there."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
