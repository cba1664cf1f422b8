"""A signature by OpenSSF Model Signing beside a package, for those who check with its tools.

The file is a sigstore bundle: a DSSE envelope around an in-toto statement that lists the SHA-256 of
every file, signed with ECDSA over a NIST curve, the only bare keys that ``model_signing verify
key`` takes. It lies beside the package and not in it, since it covers the manifest too.
"""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgedetr.export.package.keys import load_ecdsa_key
from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import is_same_file, write_text
from edgedetr.runtime.files import sha256 as file_sha256
from edgedetr.runtime.package.archive import open_archive
from edgedetr.runtime.package.reader import read_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


def sign_package(package: Path, key: Path, output: Path, ask: Callable[[], str] = str) -> None:
    """Write a bundle for a package whose files are what its manifest says.

    Args:
        package: The folder or tar. A tar is signed as the one file that it is.
        key: An ECDSA key over P-256, see `edgedetr.export.package.keys.keygen`.
        output: Where the bundle goes, not into the folder.
        ask: Called for the passphrase of the key.

    Raises:
        ArtifactError: If the package or the key is missing, damaged or another kind.
        UsageError: If the bundle would lie in the package, or replace it or the key.
    """
    if is_same_file(output, package, key) or package.resolve() in output.resolve().parents:
        raise UsageError(f"{output}: name a file beside the package for its signature")
    private = load_ecdsa_key(key, ask)
    read_package(package, require_signature=False).close()
    statement = json.dumps(_statement(package)).encode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = private.sign(pre_authentication_encoding(statement), ECDSA(SHA256()))
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": sha256(public).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    write_text(output, json.dumps(bundle) + "\n")


def pre_authentication_encoding(payload: bytes) -> bytes:
    """Return the bytes that DSSE signs for a payload."""
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _statement(package: Path) -> dict[str, Any]:
    """List the files of a package; the subject's digest is over theirs, in that order."""
    members = open_archive(package).members if package.is_dir() else {}
    paths = {name: member.path for name, member in members.items()} or {".": package}
    digests = {name: file_sha256(path) for name, path in sorted(paths.items())}
    whole = sha256(b"".join(bytes.fromhex(digest) for digest in digests.values())).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": package.resolve().name, "digest": {"sha256": whole}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest}
                for name, digest in digests.items()
            ],
        },
    }
