"""A package's bill of materials in CycloneDX 1.6: models, data sets, software, licences.

The same package gives the same bytes: the serial number follows from its hashes, and there is no
time in it. https://cyclonedx.org/docs/1.6/json/ describes the format.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from edgedetr.export.package.facts import LICENSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgedetr.export.package.facts import DataSet, Figure, PackageFacts
    from edgedetr.runtime.package.format import PackedModel

Json = dict[str, Any]


def bill_of_materials(facts: PackageFacts) -> Json:
    """Return a package's bill of materials as a JSON object of CycloneDX 1.6."""
    models = [_model(facts, model) for model in facts.manifest.models]
    data_sets = [_data_set(number, data) for number, data in enumerate(facts.data_sets)]
    software = [_software(version) for version in facts.software]
    texts = [_license_text(f.name, f.sha256) for f in facts.manifest.files if _is_license(f.name)]
    parts = sorted(f"{name} {digest}" for name, digest in facts.hashes.items())
    digest = sha256("\n".join(parts).encode()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'urn:edgedetr:package:{digest}')}",
        "version": 1,
        "metadata": {
            "tools": {"components": [_software(v) for v in facts.software if _is_own(v)]},
            "component": {
                "type": "firmware",
                "bom-ref": "package",
                "name": facts.name,
                "version": str(facts.manifest.counter),
                "description": "Signed package of an object detector for a vehicle",
            },
        },
        "components": [*models, *data_sets, *software, *texts],
        "dependencies": _dependencies(facts, models, [*data_sets, *software]),
    }


def _is_license(name: str) -> bool:
    return name.startswith(LICENSES)


def _is_own(version: str) -> bool:
    return version.startswith("edgedetr==")


def _hash(digest: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": digest}]


def _properties(values: Mapping[str, str]) -> list[Json]:
    return [{"name": f"edgedetr:{name}", "value": value} for name, value in values.items()]


def _model(facts: PackageFacts, model: PackedModel) -> Json:
    """Describe a model with its card: task, inputs, outputs, data sets, figures."""
    height, width = facts.spec.input_hw
    known = {"kind": model.kind, "precision": model.precision, "source": model.source}
    known |= {"classes": ", ".join(facts.spec.class_names), "input": f"{width} x {height}"}
    datasets = [{"ref": _data_ref(number)} for number in range(len(facts.data_sets))]
    card: Json = {
        "modelParameters": {
            "task": "object-detection",
            "architectureFamily": "DETR",
            "inputs": [{"format": "image"}],
            "outputs": [{"format": "boxes, scores and classes"}],
            **({"datasets": datasets} if datasets else {}),
        }
    }
    if figures := facts.figures.get(model.name):
        card["quantitativeAnalysis"] = {"performanceMetrics": [_metric(f) for f in figures]}
    licenses = [{"license": {"name": Path(name).name}} for name in facts.model_licenses]
    return {
        "type": "machine-learning-model",
        "bom-ref": model.name,
        "name": model.name,
        "hashes": _hash(facts.hashes[model.name]),
        **({"licenses": licenses} if licenses else {}),
        "modelCard": card,
        "properties": _properties({name: value for name, value in known.items() if value}),
    }


def _metric(figure: Figure) -> Json:
    metric = {"type": figure.name, "value": f"{figure.value:.6g}"}
    return metric | ({"slice": figure.class_name} if figure.class_name else {})


def _data_ref(number: int) -> str:
    return f"data/{number}"


def _data_set(number: int, data: DataSet) -> Json:
    contents = _properties(data.details)
    return {
        "type": "data",
        "bom-ref": _data_ref(number),
        "name": data.name,
        "data": [
            {
                "type": "dataset",
                "name": f"{data.role} data",
                **({"contents": {"properties": contents}} if contents else {}),
            }
        ],
    }


def _software(version: str) -> Json:
    name, _, number = version.partition("==")
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(number)}"
    licenses = _license_of(name)
    return {
        "type": "application" if _is_own(version) else "library",
        "bom-ref": purl,
        "name": name,
        "version": number,
        "purl": purl,
        **({"licenses": licenses} if licenses else {}),
    }


def _license_of(name: str) -> list[Json]:
    """Return the licence that an installed program names itself; nothing where it names none."""
    try:
        known = metadata(name)
    except PackageNotFoundError:
        return []
    fields = {key: known[key] for key in ("License-Expression", "License") if key in known}
    if expression := fields.get("License-Expression"):
        return [{"expression": expression}]
    named = fields.get("License", "")
    return [{"license": {"name": named}}] if named and "\n" not in named else []


def _license_text(name: str, digest: str) -> Json:
    return {"type": "file", "bom-ref": name, "name": name, "hashes": _hash(digest)}


def _dependencies(facts: PackageFacts, models: list[Json], needs: list[Json]) -> list[Json]:
    """Say that the package is made of its models, and these of data, software and one another."""
    sources = {model.name: [model.source] for model in facts.manifest.models if model.source}
    refs = [part["bom-ref"] for part in needs]
    own = [
        {"ref": m["bom-ref"], "dependsOn": [*sources.get(m["bom-ref"], []), *refs]} for m in models
    ]
    return [{"ref": "package", "dependsOn": [m["bom-ref"] for m in models]}, *own]
