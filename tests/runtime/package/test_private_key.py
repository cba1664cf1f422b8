"""Private keys are for their owner's eyes; how commands refuse them is tested with `keygen`."""

import sys

import pytest

from edgedetr.export.package.keys import keygen
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.private_key import load_private_key
from edgedetr.runtime.package.signing import fingerprint


def test_an_encrypted_key_and_who_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEDETR_KEY_PASSPHRASE", raising=False)
    name = keygen(tmp_path / "k", "correct horse")
    key = load_private_key(tmp_path / "k", lambda: "correct horse")
    assert fingerprint(key.public_key()) == name
    with pytest.raises(ArtifactError, match="the passphrase is wrong; set EDGEDETR_KEY_PASSPHRASE"):
        load_private_key(tmp_path / "k")


def test_a_key_of_another_kind(tmp_path):
    keygen(tmp_path / "k", ecdsa=True)
    with pytest.raises(ArtifactError, match="is no Ed25519 key; make one: edgedetr package keygen"):
        load_private_key(tmp_path / "k")


def test_a_vehicle_without_the_library(tmp_path, monkeypatch):
    keygen(tmp_path / "k")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ArtifactError, match=r"install edgedetr\[signature\]"):
        load_private_key(tmp_path / "k")
