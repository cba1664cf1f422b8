"""The signature beside a package that OpenSSF Model Signing accepts."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edgedetr.export.package.model_signing import pre_authentication_encoding
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.files import sha256


@pytest.fixture
def signed(edgedetr, checked, key, tmp_path):
    """Packs and signs a folder or tar; returns it, its signature and the public key."""

    def make(name):
        made, second = tmp_path / name, tmp_path / "ecdsa"
        package(Contents(**checked), made, key)
        assert edgedetr("package", "keygen", second, "--ecdsa")[0] == 0
        status, out, error = edgedetr("package", "sign", made, "--key", second)
        assert (status, error) == (0, "")
        assert out.startswith(f"{made}.sig: ")
        return made, tmp_path / f"{name}.sig", tmp_path / "ecdsa.pub"

    return make


@pytest.mark.parametrize("name", ["p", "p.tar"])
def test_what_is_signed_is_every_file(name, signed):
    made, signature, public = signed(name)
    envelope = json.loads(signature.read_text())["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    found = base64.b64decode(envelope["signatures"][0]["sig"])
    verifier = load_pem_public_key(public.read_bytes())
    assert isinstance(verifier, EllipticCurvePublicKey)
    verifier.verify(found, pre_authentication_encoding(payload), ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        verifier.verify(found, pre_authentication_encoding(payload + b" "), ECDSA(SHA256()))
    statement = json.loads(payload)
    files = {p.relative_to(made).as_posix(): p for p in made.rglob("*") if p.is_file()}
    wanted = {n: sha256(p) for n, p in (files or {".": made}).items()}
    resources = statement["predicate"]["resources"]
    assert {r["name"]: r["digest"] for r in resources} == wanted
    whole = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
    assert statement["subject"][0]["digest"] == {"sha256": whole}


def test_what_is_not_signed(edgedetr, signed, key):
    made, signature, public = signed("p")
    second = public.with_suffix("")
    for output in (made / "x.sig", second):
        status, _, error = edgedetr("package", "sign", made, "--key", second, "-o", output)
        assert (status, "name a file beside the package" in error) == (2, True)
    status, _, error = edgedetr("package", "sign", made, "--key", key)
    assert (status, "is no ECDSA key over P-256" in error) == (1, True)
    status, _, error = edgedetr("package", made / "models/m.onnx", "--key", second)
    assert (status, "is no Ed25519 key" in error) == (1, True)
    before = signature.read_bytes()
    (made / "spec.json").write_text("{}", encoding="utf-8")
    status, _, error = edgedetr("package", "sign", made, "--key", second)
    assert (status, "spec.json was changed" in error) == (1, True)
    assert signature.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p", "p.tar"])
def test_model_signing_accepts_it_and_refuses_any_changed_byte(name, signed):
    pytest.importorskip("model_signing", reason="model-signing is not installed")
    made, signature, public = signed(name)
    command = [sys.executable, "-m", "model_signing", "verify", "key", made]
    command += ["--signature", signature, "--public_key", public]

    def accepted():
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert accepted()
    files = [p for p in made.rglob("*") if p.is_file()] or [made]
    for path in files:
        data = path.read_bytes()
        place = len(data) // 2
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert not accepted(), path
        path.write_bytes(data)
    if made.is_dir():
        shutil.copy(made / "spec.json", made / "added.json")
        assert not accepted()
