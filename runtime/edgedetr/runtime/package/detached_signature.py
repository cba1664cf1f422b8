"""The signature of one file, Ed25519 (RFC 8032), in a small JSON file beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError, SettingsError, UsageError
from edgedetr.runtime.files import read_bytes, read_json, write_text
from edgedetr.runtime.package.signing import fingerprint, is_signed_by, public_key_of_bytes
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_BYTES = 4096


@dataclass(frozen=True)
class DetachedSignature:
    """Who signed a file.

    Attributes:
        public_key: The signer's 32 bytes, as hexadecimal text.
        signature: 64 bytes over the bytes of the file, likewise.
    """

    public_key: str
    signature: str


def signature_path(path: Path) -> Path:
    """Return where the signature of a file lies.

    Raises:
        UsageError: If the path has no name, such as ``.`` and ``/``.
    """
    if not path.name:
        raise UsageError(f"{path} is no file; name one")
    return path.with_name(path.name + ".sig")


def write_signature(path: Path, data: bytes, key: Ed25519PrivateKey) -> None:
    """Sign the bytes of a file and write the signature beside it."""
    made = DetachedSignature(key.public_key().public_bytes_raw().hex(), key.sign(data).hex())
    write_text(signature_path(path), json.dumps(asdict(made), indent=1) + "\n")


def signer_of(path: Path, most: int) -> str:
    """Return the fingerprint of the key that signed a file; empty where no signature lies beside.

    Args:
        path: The file.
        most: The most bytes that it may have.

    Raises:
        ArtifactError: If the signature is damaged or of other bytes, the file cannot be read, or
            the ``cryptography`` library is not installed.
    """
    place = signature_path(path)
    if not place.exists():
        return ""
    try:
        found = settings_from_dict(DetachedSignature, read_json(place, _MAX_BYTES), str(place))
        key = public_key_of_bytes(bytes.fromhex(found.public_key))
        signature, data = bytes.fromhex(found.signature), read_bytes(path, most)
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(f"{place} is no signature: {error}; sign {path} again") from error
    if not is_signed_by(key, signature, data):
        raise ArtifactError(f"{path} is not what {place.name} signed; make both again")
    return fingerprint(key)
