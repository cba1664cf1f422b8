"""How a package was made: an in-toto statement with SLSA's predicate of provenance.

https://slsa.dev/spec/v1.0/provenance describes the predicate. The statement is a file of the
package, so its signature is the package's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedetr.export.package.facts import PackageFacts
    from edgedetr.runtime.manifest import Manifest

Json = dict[str, Any]


def provenance(facts: PackageFacts, checks: dict[str, bytes]) -> Json:
    """Return the statement about the models of a package.

    Args:
        facts: The package.
        checks: The reports of ``edgedetr verify`` in it, by name.
    """
    hashes, manifest = facts.hashes, facts.manifest
    builder: Json = {"id": f"urn:edgedetr:signer:{manifest.signed_by or 'none'}"}
    builder["version"] = dict(v.split("==", 1) for v in manifest.versions)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [_named(model.name, hashes[model.name]) for model in manifest.models],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:edgedetr:package:1",
                "externalParameters": {"command": manifest.command, "counter": manifest.counter},
                "internalParameters": {
                    "steps": [_step(name, origin) for name, origin in facts.origins.items()]
                },
                "resolvedDependencies": _dependencies(facts),
            },
            "runDetails": {
                "builder": builder,
                "byproducts": [
                    _named(name, hashes[name]) | {"annotations": {"command": _command(data)}}
                    for name, data in sorted(checks.items())
                ],
            },
        },
    }


@cache
def source_commit() -> str:
    """Return the commit of this code where it runs from its repository, and nothing elsewhere.

    It ends in ``-dirty`` where files were changed since.
    """
    here = Path(__file__).resolve()
    if not _git(here.parent, "ls-files", "--error-unmatch", here.name):
        return ""
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    done = subprocess.run(  # noqa: S603 - a fixed program
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _named(name: str, digest: str) -> Json:
    return {"name": name, "digest": {"sha256": digest}}


def _step(name: str, origin: Manifest) -> Json:
    """Describe the command that made a model, from the manifest beside it."""
    return {
        "output": name,
        "sha256": origin.sha256,
        "kind": origin.kind,
        "command": origin.command,
        "versions": list(origin.versions),
        "inputs": [_named(parent.name, parent.sha256) for parent in origin.parents],
    }


def _dependencies(facts: PackageFacts) -> list[Json]:
    """List what the models were made from and is no model of the package, each once."""
    packed = {facts.hashes[model.name] for model in facts.manifest.models}
    parents = [(p.name, p.sha256) for origin in facts.origins.values() for p in origin.parents]
    starts = [(start.name, start.sha256) for start in facts.chain.starts]
    if digest := facts.calibration:
        parents.append((digest.model, digest.model_sha256))
    found = {sha: _named(name, sha) for name, sha in (*starts, *parents) if sha not in packed}
    commit, _, dirty = source_commit().partition("-")
    code: Json = {"name": "edgedetr", "digest": {"gitCommit": commit}}
    if dirty:
        code["annotations"] = {"dirty": True}
    return [*found.values(), *([code] if commit else [])]


def _command(report: bytes) -> str:
    """Return the command of a report of ``edgedetr verify``; its other keys were read before."""
    command = json.loads(report).get("command", "")
    return command if isinstance(command, str) else ""
