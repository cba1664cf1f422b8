"""Keys that sign: how they are made, kept and refused."""

import pytest


def test_keygen(edgedetr, tmp_path):
    path = tmp_path / "k"
    status, _, _ = edgedetr("package", "keygen", path)
    assert status == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    public = tmp_path / "k.pub"
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    kept = path.read_bytes(), public.read_bytes()
    status, _, error = edgedetr("package", "keygen", path)
    assert (status, "exists; a key is never overwritten" in error) == (2, True)
    assert (path.read_bytes(), public.read_bytes()) == kept
    path.unlink()
    assert edgedetr("package", "keygen", path)[0] == 2
    assert not path.exists()


@pytest.mark.parametrize("path", [".", "/", ""])
def test_a_folder_is_no_key(edgedetr, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    status, _, error = edgedetr("package", "keygen", path)
    assert (status, "exists; a key is never overwritten" in error) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_passphrase(edgedetr, fp32, tmp_path, monkeypatch):
    path, arguments = (
        tmp_path / "k",
        ("package", fp32, "--reference", fp32, "--key", tmp_path / "k"),
    )
    monkeypatch.setenv("EDGEDETR_KEY_PASSPHRASE", "correct horse")
    assert edgedetr("package", "keygen", path)[0] == 0
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert edgedetr(*arguments)[0] == 0
    for wrong in ("battery staple", ""):
        monkeypatch.setenv("EDGEDETR_KEY_PASSPHRASE", wrong)
        status, _, error = edgedetr(*arguments)
        assert (status, "the passphrase is wrong" in error) == (1, True)


def test_bad_private_keys(edgedetr, fp32, key, tmp_path):
    arguments = ("package", fp32, "-o", tmp_path / "p.tar", "--key", key)
    key.chmod(0o640)
    status, _, error = edgedetr(*arguments)
    assert (status, f"is readable by others (mode 0640); run: chmod 600 {key}" in error) == (
        1,
        True,
    )
    key.write_bytes(b"nonsense")
    key.chmod(0o600)
    assert "not a private key in PEM" in edgedetr(*arguments)[2]
    key.unlink()
    assert "cannot read the private key: No such file" in edgedetr(*arguments)[2]
    assert not (tmp_path / "p.tar").exists()


def test_a_passphrase_is_asked_for(edgedetr, fp32, tmp_path, monkeypatch):
    path = tmp_path / "k"
    asked = []

    def prompt(text, **named):
        asked.append((text, named["hide_input"], named["err"]))
        return "correct horse"

    monkeypatch.setattr("click.prompt", prompt)
    assert edgedetr("package", "keygen", path, "--passphrase")[0] == 0
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert edgedetr("package", fp32, "--reference", fp32, "--key", path)[0] == 0
    assert asked == [("Passphrase", True, True)] * 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    status, _, error = edgedetr("package", fp32, "--reference", fp32, "--key", path)
    assert (status, "set EDGEDETR_KEY_PASSPHRASE, or type it when prompted" in error) == (1, True)
    assert len(asked) == 2
