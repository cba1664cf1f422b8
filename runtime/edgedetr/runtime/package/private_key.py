"""Private keys in PEM, for their owner's eyes only. Their use needs ``cryptography``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

PASSPHRASE_VARIABLE = "EDGEDETR_KEY_PASSPHRASE"  # noqa: S105 - a name
"""Environment variable that holds the passphrase of a private key."""

_MAX_KEY_BYTES = 1 << 14


def load_private_key(path: Path, ask: Callable[[], str] = str) -> Ed25519PrivateKey:
    """Read the private key that ``edgedetr package keygen`` wrote.

    Args:
        path: The private key.
        ask: Called for the passphrase where the key has one and the environment names none.

    Raises:
        ArtifactError: If it is missing, no such key, readable by others, the passphrase is wrong,
            or the ``cryptography`` library is not installed.
    """
    key = load_any_private_key(path, ask)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(key, Ed25519PrivateKey):
        raise ArtifactError(f"{path} is no Ed25519 key; make one: edgedetr package keygen")
    return key


def load_any_private_key(path: Path, ask: Callable[[], str]) -> PrivateKeyTypes:
    """Read a private key of any kind; arguments and errors as of `load_private_key`."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise ArtifactError(
            "nothing can be signed without the cryptography library; install edgedetr[signature]"
        ) from error
    try:
        mode = path.stat().st_mode & 0o777
        data = read_bytes(path, _MAX_KEY_BYTES)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot read the private key: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: not a private key in PEM: {error}") from error
    if os.name == "posix" and mode & 0o077:
        raise ArtifactError(
            f"{path} is readable by others (mode {mode:04o}); run: chmod 600 {path}"
        )
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data
    passphrase = (os.environ.get(PASSPHRASE_VARIABLE) or ask()) if encrypted else ""
    try:
        return load_pem_private_key(data, passphrase.encode() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = (
            f"the passphrase is wrong; set {PASSPHRASE_VARIABLE}, or type it when prompted"
            if encrypted
            else "not a private key in PEM; make one: edgedetr package keygen"
        )
        raise ArtifactError(f"{path}: {problem}") from error
