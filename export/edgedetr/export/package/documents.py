"""Documents of a package in formats that others read: what it holds, how it was made, its card."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgedetr.export.package.bill_of_materials import bill_of_materials
from edgedetr.export.package.facts import facts_of
from edgedetr.export.package.model_card import model_card
from edgedetr.export.package.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedetr.runtime.package.format import PackageManifest

BILL_OF_MATERIALS = "documents/bom.cdx.json"
"""CycloneDX, see `edgedetr.export.package.bill_of_materials`."""
PROVENANCE = "documents/provenance.json"
"""In-toto, see `edgedetr.export.package.provenance`."""
MODEL_CARD = "documents/MODEL_CARD.md"
"""Markdown, see `edgedetr.export.package.model_card`."""


def documents(manifest: PackageManifest, files: Mapping[str, Path | bytes]) -> dict[str, bytes]:
    """Write the documents of a package.

    Args:
        manifest: Of the package without its documents.
        files: Every file that it lists.

    Returns:
        The content of each document by its name in the package.
    """
    facts = facts_of(manifest, files)
    checks = {
        f"checks/{report}": content
        for report in facts.chain.reports
        if isinstance(content := files[f"checks/{report}"], bytes)
    }
    return {
        BILL_OF_MATERIALS: _json(bill_of_materials(facts)),
        PROVENANCE: _json(provenance(facts, checks)),
        MODEL_CARD: model_card(facts).encode(),
    }


def _json(values: object) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()
