import io
import os
import tarfile

import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package import archive
from edgedetr.runtime.package.archive import open_archive, padding, tar_header

MEMBERS = [("a.txt", b"one"), ("b/c.bin", bytes(range(256)) * 5), ("b/d.txt", b"")]


def reheadered(block):
    """Give a changed header the checksum that fits it."""
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


@pytest.fixture
def tar(tmp_path, tar_bytes):
    """Writes a tar of the given members, or of the given bytes, and returns its path."""

    def write(members=MEMBERS):
        path = tmp_path / "p.tar"
        path.write_bytes(members if isinstance(members, bytes) else tar_bytes(members))
        return path

    return write


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_the_files_are_listed_and_read(form, tar, write_folder, tmp_path):
    path = tar() if form == "tar" else write_folder(dict(MEMBERS), tmp_path / "p")
    found = open_archive(path)
    assert {n: b"".join(found.blocks(n)) for n in found.members} == dict(MEMBERS)
    assert found.is_folder == (form == "folder")


def test_a_file_that_is_not_there(tar):
    with pytest.raises(ArtifactError, match=r"p\.tar: b/x is missing"):
        list(open_archive(tar()).blocks("b/x"))


def test_tools_read_the_tar(tar):
    with tarfile.open(tar()) as opened:
        assert [(m.name, m.isreg(), m.mode, m.mtime, m.uid) for m in opened] == [
            (name, True, 0o644, 0, 0) for name, _ in MEMBERS
        ]
        content = opened.extractfile("b/c.bin")
        assert content is not None
        assert content.read() == MEMBERS[1][1]


def test_no_prefix_of_a_tar_is_one(tar, tar_bytes):
    whole = tar_bytes(MEMBERS)
    for end in {*range(0, len(whole), 256), len(whole) - 1}:
        with pytest.raises(ArtifactError, match=r"cut off|does not end|damaged"):
            open_archive(tar(whole[:end]))


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "/x", "b/../../x", "./x", "b//x", "x/", "", ".hidden", "b/.hidden", "C:\\x"),
        *("b\\x", "a b", "a\nb", "\x1b[2J", "naïve.txt", "a/b/c/d", "-rf", "a" * 101, "\x7f", "~"),
    ],
)
def test_a_name_that_leads_elsewhere(name, tar, tmp_path):
    header = tar_header("x", 0)
    coded = name.encode()[:100].ljust(100, b"\0")
    path = tar(reheadered(coded + header[100:]) + bytes(1024))
    if len(name) <= 100:  # longer ones do not fit into a header
        with pytest.raises(ArtifactError, match="may be called"):
            open_archive(path)
    with pytest.raises(ArtifactError, match="may be called"):
        archive.check_name(name, tmp_path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        *((b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "a device"), (b"4", "a device")),
        *((b"5", "a folder entry"), (b"6", "a pipe"), (b"7", "damaged"), (b"L", "damaged")),
        *((b"x", "damaged"), (b"S", "damaged"), (b"\0", "damaged")),
    ],
)
def test_only_files(kind, said, tar):
    header = tar_header("x", 0)
    path = tar(reheadered(header[:156] + kind + header[157:]) + bytes(1024))
    with pytest.raises(ArtifactError, match=said):
        open_archive(path)


@pytest.mark.parametrize("offset", [100, 110, 120, 136, 148, 157, 263, 265, 297, 329, 345, 511])
def test_no_byte_of_a_header_is_free(offset, tar, tar_bytes):
    data = bytearray(tar_bytes(MEMBERS))
    data[offset] ^= 1
    with pytest.raises(ArtifactError, match=r"damaged"):
        open_archive(tar(bytes(data)))
    if offset != 148:  # the checksum, which would be what it was
        data[:512] = reheadered(bytes(data[:512]))
        with pytest.raises(ArtifactError, match=r"damaged"):
            open_archive(tar(bytes(data)))


def test_a_tar_of_other_tools_is_refused(tar):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=form) as opened:
            opened.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
        with pytest.raises(ArtifactError, match="damaged"):
            open_archive(tar(made.getvalue()))


def test_bytes_between_and_behind_the_files(tar, tar_bytes):
    whole = tar_bytes(MEMBERS)
    assert padding(3) == 509
    hidden = bytearray(whole)
    hidden[512 + 3] = 1
    with pytest.raises(ArtifactError, match=r"hidden behind a\.txt"):
        open_archive(tar(bytes(hidden)))
    for more in (whole + b"x", whole + bytes(512), whole[:-1] + b"x"):
        with pytest.raises(ArtifactError, match="does not end where"):
            open_archive(tar(more))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a", b"1"), ("a", b"2")], "holds a twice"),
        ([("A", b"1"), ("a", b"2")], "holds a twice"),
        ([("b", b"1"), ("a", b"2")], "a is not in its place"),
        ([("a", b"1"), ("a/b", b"2")], "a/b is both a file and a folder"),
        ([("A/b", b"1"), ("a", b"2")], "a is both a file and a folder"),
    ],
)
def test_names_that_collide(members, said, tar):
    with pytest.raises(ArtifactError, match=said):
        open_archive(tar(members))


def test_a_giant_declared_size(tar):
    for size in (8**11 - 1, archive.MAX_FILE_BYTES + 1):
        with pytest.raises(ArtifactError, match="it is too large"):
            open_archive(tar(tar_header("a", size) + bytes(2048)))
    with pytest.raises(ArtifactError, match="is cut off inside a"):
        open_archive(tar(tar_header("a", archive.MAX_FILE_BYTES) + bytes(2048)))


def test_the_limits_of_all_together(tar, monkeypatch):
    path = tar()
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 1282)
    with pytest.raises(ArtifactError, match=r"with b/c\.bin of 1280 bytes it is too large"):
        open_archive(path)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(ArtifactError, match="more than 2 files"):
        open_archive(path)


def test_what_is_no_archive(tar, tmp_path):
    with pytest.raises(ArtifactError, match="none is missing"):
        open_archive(tmp_path / "none")
    for data in (b"", b"x", b"PK\x03\x04" * 400):
        with pytest.raises(ArtifactError, match="not a package"):
            open_archive(tar(data))
    with pytest.raises(ArtifactError, match="is missing; wanted a package"):
        open_archive(tmp_path / "p.tar" / "below")


def test_links_and_pipes_in_a_folder(tmp_path, write_folder):
    folder = write_folder(dict(MEMBERS), tmp_path / "p")
    link = folder / "b" / "link"
    for target in ("/etc/passwd", "c.bin", "..", "nowhere"):
        link.symlink_to(target)
        with pytest.raises(ArtifactError, match="b/link is a symbolic link"):
            open_archive(folder)
        link.unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ArtifactError, match="pipe is not a regular file"):
        open_archive(folder)


def test_deep_and_hidden_files_of_a_folder(tmp_path, write_folder):
    folder = write_folder(dict(MEMBERS), tmp_path / "p")
    for name in ("b/e/f/g/h", ".DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        with pytest.raises(ArtifactError, match="may be called"):
            open_archive(folder)
        (folder / name).unlink()


def test_a_file_that_shrinks_or_goes_while_it_is_read(tar):
    opened = open_archive(tar())
    tar(b"x" * 600)
    with pytest.raises(ArtifactError, match=r"b/c\.bin is cut off"):
        list(opened.blocks("b/c.bin"))
    opened.path.unlink()
    with pytest.raises(ArtifactError, match=r"b/c\.bin cannot be read: No such file"):
        list(opened.blocks("b/c.bin"))
