"""Public keys that are none, and no library to check with."""

import os
import subprocess
import sys

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.reader import read_package


def test_bad_keys(write, package_files, tmp_path):
    path = write(package_files())
    key = tmp_path / "bad.pub"
    with pytest.raises(ArtifactError, match=r"bad\.pub: not a public key in PEM"):
        read_package(path, key)
    for text in (
        b"",
        b"\x00" * 9000,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    ):
        key.write_bytes(text)
        with pytest.raises(ArtifactError, match=r"bad\.pub: not a public key in PEM"):
            read_package(path, key)


def test_a_key_that_never_ends_is_not_waited_for(write, package_files, tmp_path):
    os.mkfifo(tmp_path / "bad.pub")
    with pytest.raises(ArtifactError, match=r"bad\.pub: not a public key in PEM: it is no regular"):
        read_package(write(package_files()), tmp_path / "bad.pub")


def test_a_key_of_another_kind(write, package_files, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = tmp_path / "x.pub"
    public = X25519PrivateKey.generate().public_key()
    key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ArtifactError, match="not an Ed25519 key"):
        read_package(write(package_files()), key)


def test_without_the_cryptography_library(write, package_files, public):
    path = write(package_files())
    script = (
        "import sys; from pathlib import Path; sys.modules['cryptography'] = None\n"
        "from edgedetr.runtime.package import read_package\n"
        "path, key = map(Path, sys.argv[1:])\n"
        "print(read_package(path, require_signature=False).is_trusted)\n"
        "try: read_package(path, key)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, public], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False\nArtifactError a signature cannot be checked without")
    assert "install edgedetr[signature]" in done.stdout
