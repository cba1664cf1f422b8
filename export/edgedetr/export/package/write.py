"""Write the signed package that ships: models, their golden detections, the proof of their gates.

What is inside is described in `edgedetr.runtime.package.format`; `reader` beside that opens it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256 as sha256_of
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from edgedetr.export.package.candidate import read_candidate
from edgedetr.export.package.chain import CHAIN, Chain, chain_starts, check_chain
from edgedetr.export.package.device_checks import device_proof, proof_files
from edgedetr.export.package.documents import documents
from edgedetr.export.package.facts import LICENSES, OWN_LICENSE
from edgedetr.export.package.gates import (
    CALIBRATION,
    check_calibration,
    check_coverage,
    check_engine,
    check_report,
    digest_of,
)
from edgedetr.export.package.golden import golden_answers
from edgedetr.export.package.policy import Evidence, check_policy, read_policy
from edgedetr.export.package.report_record import ACCURACY
from edgedetr.export.search.coverage_record import coverage_path
from edgedetr.export.verify.record import read_verify_record
from edgedetr.graph.checksum import joined_sha256
from edgedetr.graph.macs import int8_macs, macs
from edgedetr.graph.model_file import load_onnx
from edgedetr.runtime.errors import ArtifactError, GateError, UsageError
from edgedetr.runtime.files import atomic_path, is_same_file, sha256, unfinished_folder
from edgedetr.runtime.manifest import manifest_path, versions_of
from edgedetr.runtime.package.archive import TAR_END, check_name, padding, tar_header
from edgedetr.runtime.package.format import (
    FORMAT,
    FRAME,
    GOLDEN,
    MANIFEST,
    SIGNATURE,
    SPEC,
    PackageManifest,
    PackedFile,
    PackedModel,
)
from edgedetr.runtime.package.private_key import load_private_key
from edgedetr.runtime.package.reader import ppm_header, read_package
from edgedetr.runtime.package.signing import fingerprint
from edgedetr.runtime.self_test import check_inputs, golden_frame

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from numpy.typing import NDArray

    from edgedetr.export.package.candidate import Candidate
    from edgedetr.export.verify.record import VerifyRecord
    from edgedetr.runtime.spec import ModelSpec

VERSIONS = ("edgedetr", "numpy", "onnx", "onnxruntime", "opencv-python-headless", "cryptography")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What to pack.

    Attributes:
        models: ONNX models; the vehicle runs the first by default.
        spec: The spec of models that hold none.
        engines: Engines that were built from them.
        parity: Reports of ``edgedetr verify --json``, see `check_parity`.
        references: FP32 models that the others were compared with and that do not ship.
        calibration: The stats that INT8 models were quantized with.
        report: The ``report.json`` of ``edgedetr report``.
        licenses: Texts to pack beside this project's own.
        device_checks: Records of ``edgedetr device check``; signatures lie beside them.
        frame: RGB image of the self-test, uint8 (H, W, 3); generated if not given.
        counter: Place among the packages of one maker: vehicles refuse a lower one than they have
            accepted.
        policy: What the fleet demands, see `edgedetr.export.package.policy`.
    """

    models: tuple[Path, ...]
    spec: ModelSpec | None = None
    engines: tuple[Path, ...] = ()
    parity: tuple[Path, ...] = ()
    references: tuple[Path, ...] = ()
    calibration: Path | None = None
    report: Path | None = None
    licenses: tuple[Path, ...] = ()
    device_checks: tuple[Path, ...] = ()
    frame: NDArray[np.uint8] | None = None
    counter: int = 0
    policy: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file that is given."""
        reports = (*self.parity, *self.device_checks)
        several = (self.models, self.engines, reports, self.references, self.licenses)
        single = (self.calibration, self.report, self.policy)
        return tuple(p for group in (*several, single) for p in group if p is not None)


def package(
    contents: Contents,
    output: str | os.PathLike[str],
    key: str | os.PathLike[str] | None = None,
    command: str = "",
    ask: Callable[[], str] = str,
) -> PackageManifest:
    """Check every gate, then write a package, whole or not at all.

    Args:
        contents: What to pack.
        output: A ``.tar`` to write or replace, or a folder that does not exist yet.
        key: Private key to sign with; unsigned if not given.
        command: The command line, for the manifest.
        ask: Called for the passphrase of the key, see `load_private_key`.

    Raises:
        GateError: If a check failed, is missing or was of another model.
        ArtifactError: If a file is missing or damaged.
        UsageError: If two files would have one name, or the output exists.
    """
    output = Path(output)
    key = None if key is None else Path(key)
    _check_output(output, contents, key)
    signer = load_private_key(key, ask) if key else None
    models = [read_candidate(path, contents.spec) for path in contents.models]
    if any(model.spec != models[0].spec for model in models):
        raise UsageError("models of one package must have one spec; make a package for each")
    files: dict[str, Path | bytes] = {}
    gates = _add_checks(files, contents, models)
    packed = [_add_model(files, model) for model in models]
    packed += [_add_engine(files, engine, models) for engine in contents.engines]
    spec = models[0].spec
    frame = golden_frame(spec.input_hw) if contents.frame is None else contents.frame
    golden = golden_answers(models, frame)
    _add(files, GOLDEN, _json(asdict(golden)))
    _add(files, FRAME, ppm_header(golden.frame_hw) + frame.tobytes())
    _add(files, SPEC, (spec.to_json() + "\n").encode())
    _add_licenses(files, contents.licenses)
    hashed = _hashed(files)
    _check_seen(models, hashed)
    manifest = PackageManifest(
        format=FORMAT,
        models=tuple(packed),
        files=hashed,
        gates=gates,
        signed_by=fingerprint(signer.public_key()) if signer else "",
        versions=versions_of(VERSIONS),
        command=command,
        counter=contents.counter,
    )
    manifest = _add_documents(files, manifest)
    _write(files, manifest, signer, output)
    return manifest


def _check_output(output: Path, contents: Contents, key: Path | None) -> None:
    inputs = [*contents.inputs, *([key] if key else [])]
    if is_same_file(output, *inputs) or not contents.models:
        raise UsageError(f"{output}: give an ONNX model to pack and another file to write to")
    if output.suffix != ".tar" and output.exists():
        raise UsageError(f"{output} exists; remove it or name another folder, or a .tar")
    if output.is_dir():
        raise UsageError(f"{output} is a folder; name another .tar")


def _add(files: dict[str, Path | bytes], name: str, content: Path | bytes) -> None:
    """Give a file its name in the package; models may share a file, others may not share a name."""
    check_name(name, Path(name))
    if name in files and files[name] != content:
        raise UsageError(f"two files would have the name {name} in the package; rename one")
    files[name] = content


def _add_checks(
    files: dict[str, Path | bytes], contents: Contents, models: Sequence[Candidate]
) -> tuple[str, ...]:
    """Check the gates and add what they are known by; return a line for each."""
    records = proof_files(contents.device_checks)
    judged = (*contents.parity, contents.calibration, contents.report, *records.values())
    before = {p: sha256(p) for p in judged if p and p.is_file()}  # the gates read them later
    references = [read_candidate(path, contents.spec) for path in contents.references]
    verdicts = [read_verify_record(path) for path in contents.parity]
    engines = {path.name: sha256(path) for path in contents.engines}
    starts = chain_starts(models, verdicts, references)
    gates = check_chain(models, verdicts, starts, engines.values())
    for path in contents.parity:
        _add(files, f"checks/{path.name}", _seen(path, before))
    _add(files, CHAIN, _json(asdict(Chain(starts, tuple(p.name for p in contents.parity)))))
    stats = check_calibration(contents.calibration, models, verdicts, references)
    if stats and contents.calibration:
        _seen(contents.calibration, before)
        _add(files, CALIBRATION, _json(asdict(digest_of(stats, contents.calibration))))
        gates += (f"calibrated on {stats.frames} frames, method {stats.method}",)
    if contents.report:
        check_report(contents.report, models)
        _add(files, ACCURACY, _seen(contents.report, before))
        gates += (f"accuracy in {contents.report.name}",)
    int8 = [m for m in models if m.precision == "int8"]
    gates += tuple(_add_coverage(files, model, verdicts) for model in int8)
    proofs = [device_proof(path, models, engines) for path in contents.device_checks]
    gates += tuple(proof.line for proof in proofs)
    for place, record in records.items():
        _add(files, place, _seen(record, before))
    if contents.policy:
        evidence = Evidence(
            models=models,
            verdicts=verdicts,
            starts=starts,
            engines=engines,
            calibration_frames=stats.frames if stats else None,
            has_accuracy=contents.report is not None,
            devices=proofs,
        )
        gates += (check_policy(read_policy(contents.policy), contents.policy, evidence),)
    return gates


def _seen(path: Path, before: Mapping[Path, str]) -> bytes:
    """Read what the gates saw; stop where a file changed meanwhile."""
    data = path.read_bytes()
    if sha256_of(data).hexdigest() != before.get(path):
        raise GateError(f"{path} changed while it was packed; nothing was packaged, run it again")
    return data


def _add_coverage(
    files: dict[str, Path | bytes], model: Candidate, verdicts: Sequence[VerifyRecord]
) -> str:
    """Add how much is in INT8, and where it was chosen by measurement, what was measured."""
    graph, name = load_onnx(model.path), model.path.name
    inside, whole = sum(int8_macs(graph).values()), sum(macs(graph).values())
    _add(files, f"checks/{name}.macs.json", _json({"int8_macs": inside, "macs": whole}))
    measured = coverage_path(model.path)
    if measured.is_file():
        check_coverage(measured, model, verdicts)
        _add(files, f"checks/{measured.name}", measured.read_bytes())
    return f"{name}: {inside / max(1, whole):.1%} of multiply-accumulates in INT8"


def _add_model(files: dict[str, Path | bytes], model: Candidate) -> PackedModel:
    folder, companions = model.path.parent, list(model.data)
    if model.manifest:
        companions.append(manifest_path(model.path).name)
    for name in (model.path.name, *companions):
        _add(files, f"models/{name}", folder / name)
    return PackedModel(
        f"models/{model.path.name}",
        "onnx",
        model.precision,
        tuple(f"models/{name}" for name in companions),
    )


def _add_engine(
    files: dict[str, Path | bytes], engine: Path, models: Sequence[Candidate]
) -> PackedModel:
    model = check_engine(engine, models)
    names = [f"models/{path.name}" for path in (engine, manifest_path(engine))]
    _add(files, names[0], engine)
    _add(files, names[1], manifest_path(engine))
    source = f"models/{model.path.name}"
    return PackedModel(names[0], "engine", model.precision, (names[1],), source)


def _add_licenses(files: dict[str, Path | bytes], licenses: Sequence[Path]) -> None:
    own = [f for f in distribution("edgedetr").files or () if f.name == "LICENSE"]
    if not own:
        raise ArtifactError("the installed edgedetr has no LICENSE file; install it again")
    _add(files, OWN_LICENSE, Path(str(own[0].locate())).read_bytes())
    for path in licenses:
        _add(files, f"{LICENSES}{path.name}", path)


def _add_documents(files: dict[str, Path | bytes], manifest: PackageManifest) -> PackageManifest:
    """Add the documents about all other files; return the manifest with them."""
    made = documents(manifest, files)
    for name, content in made.items():
        _add(files, name, content)
    listed = sorted((*manifest.files, *_hashed(made)), key=lambda file: file.name)
    return replace(manifest, files=tuple(listed))


def _hashed(files: Mapping[str, Path | bytes]) -> tuple[PackedFile, ...]:
    return tuple(_packed_file(name, files[name]) for name in sorted(files))


def _packed_file(name: str, content: Path | bytes) -> PackedFile:
    if isinstance(content, bytes):
        return PackedFile(name, sha256_of(content).hexdigest(), len(content))
    return PackedFile(name, sha256(content), content.stat().st_size)


def _check_seen(models: Sequence[Candidate], files: Sequence[PackedFile]) -> None:
    """Stop unless what will be packed is what the gates saw; what is written is held to it again.

    Raises:
        GateError: If a model was changed meanwhile.
    """
    hashes = {file.name: file.sha256 for file in files}
    for model in models:
        own = hashes[f"models/{model.path.name}"]
        weights = [(hashes[f"models/{name}"], name) for name in model.data]
        if joined_sha256(own, weights) != model.sha256:
            raise GateError(
                f"{model.path} changed while it was packed; nothing was packaged, run the "
                "gates on it again"
            )


def _write(
    files: Mapping[str, Path | bytes],
    manifest: PackageManifest,
    signer: Ed25519PrivateKey | None,
    output: Path,
) -> None:
    """Write a package beside ``output``, open it as a vehicle would, and move it there."""
    data = _json(asdict(manifest))
    everything = {**files, MANIFEST: data} | ({SIGNATURE: signer.sign(data)} if signer else {})
    if output.suffix == ".tar":
        with atomic_path(output) as temporary:
            _write_tar(everything, manifest, temporary)
            _check_written(temporary)
        return
    with unfinished_folder(output) as unfinished:
        for name, content in everything.items():
            place = unfinished / name
            place.parent.mkdir(exist_ok=True, parents=True)
            with place.open("wb") as file:
                file.writelines(_blocks(content))
        _check_written(unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(output)


def _write_tar(files: Mapping[str, Path | bytes], manifest: PackageManifest, output: Path) -> None:
    sizes = {f.name: f.size for f in manifest.files}
    with output.open("wb") as file:
        for name in sorted(files):
            content = files[name]
            size = len(content) if isinstance(content, bytes) else sizes[name]
            file.write(tar_header(name, size))
            file.writelines(_blocks(content))
            file.write(bytes(padding(size)))
        file.write(TAR_END)


def _check_written(path: Path) -> None:
    """Stop where a file changed while it was packed."""
    with read_package(path, require_signature=False) as written:
        written.check_manifests()
        check_inputs(written.golden, written.spec)


def _blocks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while block := file.read(_CHUNK):
            yield block


def _json(values: object) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()
