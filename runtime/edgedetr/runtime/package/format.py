"""What a package is: the files inside, and its manifest.

::

    MANIFEST.json       what is inside: name, size and SHA-256 of every other file
    MANIFEST.sig        64 bytes: Ed25519 over MANIFEST.json
    spec.json           the model's contract
    golden.json         what the self-test compares with, see `edgedetr.runtime.self_test`
    golden.ppm          the frame of the self-test
    models/             ONNX files with their external data, engines, their manifests
    devices/            what devices found of the models, with signatures
    checks/ licenses/   the reports of the gates, the accuracy, the calibration's digest; licences
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]
FORMAT: Literal["edgedetr-package-1"] = "edgedetr-package-1"
MANIFEST, SIGNATURE = "MANIFEST.json", "MANIFEST.sig"
SPEC, GOLDEN, FRAME = "spec.json", "golden.json", "golden.ppm"


@dataclass(frozen=True)
class PackedFile:
    """A file of a package: its name inside, SHA-256 and size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class PackedModel:
    """A model of a package.

    Attributes:
        name: Name of its file in the package.
        kind: What it is.
        precision: Of the ONNX graph; of an engine, that of the graph it was built from.
        companions: Files that must lie beside it: external data, its manifest.
        source: Of an engine, the ONNX model in the package that it was built from.
    """

    name: str
    kind: Literal["onnx", "engine"]
    precision: Precision
    companions: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class PackageManifest:
    """The contents of a package.

    Attributes:
        format: Version of the layout.
        models: The models, the one to run first.
        files: Every file but manifest and signature, sorted by name.
        gates: What was checked before the package was written, a line each.
        signed_by: Fingerprint of the public key; empty where the package is not signed.
        versions: ``name==version`` of the packages that made it.
        command: What made it.
        counter: Its place among the packages of its maker: a vehicle refuses one that is lower
            than it has accepted, see `edgedetr.runtime.package.counter`; 0 in packages from before
            there were counters.
    """

    format: Literal["edgedetr-package-1"]
    models: tuple[PackedModel, ...]
    files: tuple[PackedFile, ...]
    gates: tuple[str, ...]
    signed_by: str
    versions: tuple[str, ...]
    command: str
    counter: int = 0

    def __post_init__(self) -> None:
        if self.counter < 0:
            raise ValueError("the counter must not be negative")
        names = [f.name for f in self.files]
        used = [n for m in self.models for n in (m.name, *m.companions, m.source or m.name)]
        if names != sorted(set(names)) or not self.models:
            raise ValueError("the files must be sorted and different, and one must be a model")
        if lost := sorted({SPEC, GOLDEN, FRAME, *used} - set(names)):
            raise ValueError(f"{lost[0]} is not among the files")
