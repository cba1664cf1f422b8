"""Signatures beside a file."""

import json
from pathlib import Path

import pytest

from edgedetr.export.package.keys import keygen
from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.package.detached_signature import (
    signature_path,
    signer_of,
    write_signature,
)
from edgedetr.runtime.package.private_key import load_private_key


@pytest.fixture
def signed(tmp_path):
    """A signed file and its signer."""
    path, key = tmp_path / "a.json", tmp_path / "k"
    name = keygen(key)
    path.write_bytes(b"what was measured")
    write_signature(path, path.read_bytes(), load_private_key(key))
    return path, name


def test_who_signed(signed):
    path, name = signed
    assert signer_of(path, 100) == name
    signature_path(path).unlink()
    assert signer_of(path, 100) == ""


def test_other_bytes_are_not_signed(signed):
    path, _ = signed
    path.write_bytes(b"what was Measured")
    with pytest.raises(ArtifactError, match=r"is not what a\.json\.sig signed; make both again"):
        signer_of(path, 100)


@pytest.mark.parametrize("change", [{"public_key": "zz"}, {"public_key": "00"}, {"signature": 4}])
def test_a_damaged_signature(signed, change):
    path, _ = signed
    place = signature_path(path)
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(ArtifactError, match=r"a\.json\.sig is no signature: .*; sign .* again"):
        signer_of(path, 100)


def test_a_file_that_is_too_large(signed):
    path, _ = signed
    with pytest.raises(ArtifactError, match="is no signature"):
        signer_of(path, 4)


def test_a_path_without_a_name_has_no_signature():
    with pytest.raises(UsageError, match=r"\. is no file; name one"):
        signature_path(Path())
