"""The facts of a package that its documents tell: models, data sets, software, steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedetr.export.package.chain import CHAIN, Chain
from edgedetr.export.package.gates import CALIBRATION, CalibrationDigest
from edgedetr.export.package.report_record import ACCURACY
from edgedetr.graph.checksum import joined_sha256
from edgedetr.runtime.manifest import manifest_from_json, manifest_path
from edgedetr.runtime.package.format import SPEC
from edgedetr.runtime.settings import settings_from_dict
from edgedetr.runtime.spec import spec_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgedetr.runtime.manifest import Manifest
    from edgedetr.runtime.package.format import PackageManifest, PackedModel
    from edgedetr.runtime.spec import ModelSpec

LICENSES = "licenses/"
"""Where a package holds texts of licences."""
OWN_LICENSE = f"{LICENSES}edgedetr.LICENSE"
"""This project's licence."""


@dataclass(frozen=True)
class Figure:
    """A figure of the accuracy or cost of a model; ``class_name`` is empty where it is of all."""

    name: str
    value: float
    class_name: str = ""


@dataclass(frozen=True)
class DataSet:
    """Frames that a model was trained, calibrated or measured on.

    Attributes:
        role: ``training``, ``calibration`` or ``evaluation``.
        name: As the maker called it, with its split.
        details: What else is known, by name.
    """

    role: str
    name: str
    details: dict[str, str]


@dataclass(frozen=True)
class PackageFacts:
    """What the documents of a package are made from.

    Attributes:
        manifest: Of the package, before the documents are in it.
        spec: Of its models.
        chain: Where its models begin.
        calibration: What its INT8 models were quantized with.
        origins: The manifests beside its models, by the model's name in the package.
        figures: What the report measured of a model, by its name in the package.
        data_sets: Every data set that a report or the calibration names.
    """

    manifest: PackageManifest
    spec: ModelSpec
    chain: Chain
    calibration: CalibrationDigest | None
    origins: dict[str, Manifest]
    figures: dict[str, tuple[Figure, ...]]
    data_sets: tuple[DataSet, ...]

    @property
    def name(self) -> str:
        """The first model's file name without its suffix."""
        return Path(self.manifest.models[0].name).stem

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file by its name in the package."""
        return {file.name: file.sha256 for file in self.manifest.files}

    @property
    def software(self) -> tuple[str, ...]:
        """``name==version`` of every program that made the package or its models, sorted."""
        several = [self.manifest.versions, *(o.versions for o in self.origins.values())]
        return tuple(sorted({v for versions in several for v in versions if "==" in v}))

    @property
    def model_licenses(self) -> tuple[str, ...]:
        """Names of the licence texts that came with the models."""
        names = (file.name for file in self.manifest.files)
        return tuple(n for n in names if n.startswith(LICENSES) and n != OWN_LICENSE)


def facts_of(manifest: PackageManifest, files: Mapping[str, Path | bytes]) -> PackageFacts:
    """Collect the facts of a package from its manifest and the files that it will hold."""

    def content(name: str) -> bytes:
        file = files[name]
        return file if isinstance(file, bytes) else file.read_bytes()

    origins = {}
    for model in manifest.models:
        name = manifest_path(Path(model.name)).as_posix()
        if name in files:
            origins[model.name] = manifest_from_json(content(name), name)
    digest = None
    if CALIBRATION in files:
        digest = settings_from_dict(
            CalibrationDigest, json.loads(content(CALIBRATION)), CALIBRATION
        )
    report = json.loads(content(ACCURACY)) if ACCURACY in files else {}
    hashes = {file.name: file.sha256 for file in manifest.files}
    measured = {m["sha256"]: _figures(m) for m in report.get("models", ())}
    found = {m.name: measured.get(_model_sha256(m, hashes), ()) for m in manifest.models}
    return PackageFacts(
        manifest=manifest,
        spec=spec_from_json(content(SPEC).decode(), SPEC),
        chain=settings_from_dict(Chain, json.loads(content(CHAIN)), CHAIN),
        calibration=digest,
        origins=origins,
        figures={name: figures for name, figures in found.items() if figures},
        data_sets=(*_reported_data(report), *_calibration_data(digest)),
    )


def _model_sha256(model: PackedModel, hashes: Mapping[str, str]) -> str:
    """Return the hash of all files of a model, as reports name it."""
    folder = f"{Path(model.name).parent.as_posix()}/"
    own = manifest_path(Path(model.name)).as_posix()
    weights = [(hashes[n], n.removeprefix(folder)) for n in model.companions if n != own]
    return joined_sha256(hashes[model.name], weights)


def _figures(model: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return what a report measured; what it left out, or could not define, is not there."""
    single = {
        "AP": "ap",
        "AP50": "ap50",
        "agreement with the teacher": "agreement_with_teacher",
        "parameters (millions)": "params_m",
        "GFLOPs": "gflops",
        "file (MiB)": "file_mib",
    }
    several = {"AP50": "ap50_by_class", "KITTI AP40, moderate (%)": "kitti_ap40_moderate"}
    found = [Figure(name, model[key]) for name, key in single.items() if _is_number(model.get(key))]
    for name, key in several.items():
        of_classes = model.get(key)
        for class_name, value in of_classes.items() if isinstance(of_classes, dict) else ():
            if _is_number(value):
                found.append(Figure(name, value, class_name))
    return tuple(found)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reported_data(report: Mapping[str, Any]) -> tuple[DataSet, ...]:
    """Return the data sets that a report names; texts and whole numbers of it only."""
    found = []
    evaluated = report.get("data")
    if isinstance(evaluated, dict):
        name = _named(evaluated, "root", "split")
        details = {k: str(evaluated[k]) for k in ("format", "frames") if k in evaluated}
        objects = evaluated.get("objects")
        if isinstance(objects, dict):
            details["objects"] = ", ".join(f"{n} {count}" for n, count in objects.items())
        found.append(DataSet("evaluation", name, details))
    settings = report.get("made_by")
    trained = settings.get("data") if isinstance(settings, dict) else None
    if isinstance(trained, dict):
        details = {"format": str(trained["format"])} if "format" in trained else {}
        found.append(DataSet("training", _named(trained, "root", "train_split"), details))
    return tuple(found)


def _named(values: Mapping[str, Any], root: str, split: str) -> str:
    parts = (str(values[key]) for key in (root, split) if values.get(key))
    return ", ".join(parts) or "unnamed"


def _calibration_data(digest: CalibrationDigest | None) -> tuple[DataSet, ...]:
    if digest is None:
        return ()
    details = {"frames": str(digest.frames), "sha256 of the frames": digest.frames_sha256}
    return (DataSet("calibration", "frames of the calibration", details),)
