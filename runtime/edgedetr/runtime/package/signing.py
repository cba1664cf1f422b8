"""Ed25519 signatures (RFC 8032): who made a package. Their use needs ``cryptography``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64
_MAX_KEY_BYTES = 4096


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key in PEM, as ``edgedetr package keygen`` writes it.

    Raises:
        ArtifactError: If the file is missing or no such key, or the ``cryptography`` library is not
            installed.
    """
    kind = _key_class()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(read_bytes(path, _MAX_KEY_BYTES))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ArtifactError(f"{path}: not a public key in PEM: {error}") from error
    if not isinstance(key, kind):
        raise ArtifactError(f"{path} is not an Ed25519 key; make one: edgedetr package keygen")
    return key


def public_key_of_bytes(data: bytes) -> Ed25519PublicKey:
    """Return the public key of these 32 bytes.

    Raises:
        ArtifactError: If the ``cryptography`` library is not installed.
        ValueError: If there are more or fewer bytes.
    """
    return _key_class().from_public_bytes(data)


def _key_class() -> type[Ed25519PublicKey]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise ArtifactError(
            "a signature cannot be checked without the cryptography library; install "
            "edgedetr[signature]"
        ) from error
    return Ed25519PublicKey


def fingerprint(key: Ed25519PublicKey) -> str:
    """Name a key: the SHA-256 of its 32 bytes, as hexadecimal text."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def is_signed_by(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    """Return whether a signature of ``data`` was made with the private half of a key."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
