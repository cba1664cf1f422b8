"""Packages on disk."""

import pytest


@pytest.fixture(params=["folder", "tar"])
def write(request, tmp_path, write_folder, tar_bytes):
    """Writes files by name as a package, a folder or a tar."""

    def write(files):
        if request.param == "folder":
            return write_folder(files, tmp_path / "p")
        path = tmp_path / "p.tar"
        path.write_bytes(tar_bytes(sorted(files.items())))
        return path

    return write


@pytest.fixture
def public(keys):
    return keys[1]
