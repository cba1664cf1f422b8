"""Keys: Ed25519 (RFC 8032) for packages, ECDSA over P-256 for OpenSSF Model Signing beside them."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.package.private_key import load_any_private_key
from edgedetr.runtime.package.signing import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def public_path(key: Path) -> Path:
    """Return where the public half of a private key lies."""
    return key.parent / f"{key.name}.pub"


def keygen(path: Path, passphrase: str = "", *, ecdsa: bool = False) -> str:
    """Make a pair of keys: the private one for its owner's eyes only, the public one beside it.

    Args:
        path: Where the private key goes; the public one goes to `public_path`.
        passphrase: Encrypts the private key where it is not empty.
        ecdsa: Whether to make an ECDSA key over P-256, which OpenSSF Model Signing wants, and not
            an Ed25519 key, with which packages are signed.

    Returns:
        The fingerprint of the public key: the SHA-256 of its bytes, of an ECDSA key of its PEM.

    Raises:
        UsageError: If either file exists.
    """
    key = generate_private_key(SECP256R1()) if ecdsa else Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for place in (path, public_path(path)):
        if place.exists():
            raise UsageError(f"{place} exists; a key is never overwritten, choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_new(path, private, 0o600)
    try:
        _write_new(public_path(path), public, 0o644)
    except BaseException:
        path.unlink()
        raise
    if isinstance(key, Ed25519PrivateKey):
        return fingerprint(key.public_key())
    return sha256(public).hexdigest()


def load_ecdsa_key(path: Path, ask: Callable[[], str] = str) -> EllipticCurvePrivateKey:
    """Read what `keygen` wrote for OpenSSF Model Signing; arguments as of `load_private_key`.

    Raises:
        ArtifactError: If it is missing, no such key, readable by others, or the passphrase is
            wrong.
    """
    key = load_any_private_key(path, ask)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ArtifactError(
            f"{path} is no ECDSA key over P-256; make one: edgedetr package keygen --ecdsa"
        )
    return key


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist, with its mode from the first moment on."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
