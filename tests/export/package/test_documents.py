"""Documents of a package: in formats of others, bound by its manifest, the same for the same."""

import json

import pytest

from edgedetr.export.package.documents import BILL_OF_MATERIALS, MODEL_CARD, PROVENANCE
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.archive import TAR_END, padding, tar_header
from edgedetr.runtime.package.reader import read_package

DOCUMENTS = (BILL_OF_MATERIALS, PROVENANCE, MODEL_CARD)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_was_changed_is_refused(name, checked, key, tmp_path):
    made = tmp_path / "p"
    package(Contents(**checked), made, key)
    data = bytearray((made / name).read_bytes())
    data[len(data) // 2] ^= 1
    (made / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=rf"{name} was changed"):
        read_package(made, key.with_name("k.pub"))


def test_a_package_from_before_there_were_documents_opens(edgedetr, checked, tmp_path):
    """Written by hand: the manifest of an older maker lists none."""
    made = tmp_path / "p"
    package(Contents(**checked), made)
    manifest = json.loads((made / "MANIFEST.json").read_text(encoding="utf-8"))
    manifest["files"] = [f for f in manifest["files"] if f["name"] not in DOCUMENTS]
    files = {f["name"]: (made / f["name"]).read_bytes() for f in manifest["files"]}
    files["MANIFEST.json"] = json.dumps(manifest).encode()
    tar = b"".join(
        tar_header(name, len(files[name])) + files[name] + bytes(padding(len(files[name])))
        for name in sorted(files)
    )
    (tmp_path / "old.tar").write_bytes(tar + TAR_END)
    status, out, error = edgedetr("package", "verify", tmp_path / "old.tar")
    assert (status, f"{len(files) - 1} files match" in out) == (0, True), error
