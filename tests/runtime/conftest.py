"""Packages as `edgedetr package` writes them, and such as nobody should."""

import hashlib
import json
from dataclasses import asdict

import pytest

from edgedetr.runtime.package.archive import TAR_END, padding, tar_header
from edgedetr.runtime.package.reader import ppm_header
from edgedetr.runtime.self_test import Golden, GoldenAnswer, golden_inputs
from edgedetr.runtime.spec import ModelSpec

PACKED_SPEC = ModelSpec((8, 16), ("Car", "Pedestrian"))


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A private key and the file of its public half."""
    return _keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory):
    """Another private key and the file of its public half."""
    return _keys(tmp_path_factory.mktemp("other_keys"))


@pytest.fixture(scope="session")
def package_files(keys):
    """Makes the files of a package by name, manifest and signature among them."""

    def make(*, key=keys[0], changes=None, **manifest):
        files = {
            "spec.json": PACKED_SPEC.to_json().encode(),
            "golden.json": json.dumps(asdict(golden())).encode(),
            "golden.ppm": ppm_header((4, 6)) + bytes(range(72)),
            "models/m.onnx": b"graph " * 300,
            "models/m.onnx.manifest.json": b"{}",
            "models/m.bin": b"weights " * 1000,
            "checks/verify.json": b'{"passed": true}',
            "licenses/LICENSE": b"Apache-2.0",
        } | (changes or {})
        listed = [
            {"name": n, "sha256": hashlib.sha256(files[n]).hexdigest(), "size": len(files[n])}
            for n in sorted(files)
        ]
        companions = ["models/m.bin", "models/m.onnx.manifest.json"]
        values = {
            "format": "edgedetr-package-1",
            "models": [
                {
                    "name": "models/m.onnx",
                    "kind": "onnx",
                    "precision": "fp32",
                    "companions": companions,
                }
            ],
            "files": listed,
            "gates": [],
            "signed_by": "somebody" if key else "",
            "versions": [],
            "command": "",
        } | manifest
        data = json.dumps(values).encode()
        return files | {"MANIFEST.json": data} | ({"MANIFEST.sig": key.sign(data)} if key else {})

    return make


@pytest.fixture(scope="session")
def write_folder():
    """Writes files by name into a folder."""

    def write(files, folder):
        for name, data in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return folder

    return write


@pytest.fixture(scope="session")
def tar_bytes():
    """Makes the tar of pairs of name and bytes, in their order."""

    def make(members):
        return b"".join(tar_header(n, len(d)) + d + bytes(padding(len(d))) for n, d in members) + (
            TAR_END
        )

    return make


@pytest.fixture(scope="session")
def packed_tar(package_files, tar_bytes):
    """The bytes of a good signed tar."""
    return tar_bytes(sorted(package_files().items()))


def golden():
    return Golden(
        inputs=golden_inputs(PACKED_SPEC),
        frame_hw=(4, 6),
        answers=(GoldenAnswer("models/m.onnx", ((0, 0, 3, 3),), (0.5,), (1,), 0.5, 1e-3),),
    )


def _keys(folder):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = folder / "k.pub"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return key, public
