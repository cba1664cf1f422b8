"""Files are written whole or not at all, and what is no file stays what it is."""

import errno
import os
import stat
import sys
import threading

import pytest

from edgedetr.runtime.files import (
    UNFINISHED,
    atomic_path,
    files_with,
    in_any_case,
    is_same_file,
    output_to_itself,
    read_json,
    unfinished_folder,
    write_text,
)


def test_an_unfinished_file_is_hidden_and_no_reader_s(tmp_path):
    name = "n" * 251 + ".txt"  # as long as can be
    with atomic_path(str(tmp_path / "new" / name)) as temporary:
        temporary.write_text("half")
        assert [p.name for p in (tmp_path / "new").iterdir()] == [temporary.name]
        assert temporary.name.startswith(".")
        assert temporary.suffix == UNFINISHED
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


def write_half(how, path):
    with how(path) as temporary:
        place = temporary / "b.txt" if temporary.is_dir() else temporary
        place.write_text("half")
        raise ValueError("no")


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    for how in (atomic_path, unfinished_folder):
        with pytest.raises(ValueError, match="no"):
            write_half(how, path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices")
def test_a_device_stays_a_device(tmp_path):
    path = tmp_path / "null"
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    write_text(path, "gone")
    assert stat.S_ISCHR(path.stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["null"]


def test_a_pipe_gets_the_bytes(tmp_path):
    path, got = tmp_path / "pipe.json", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_text()))
    reader.start()
    write_text(path, "{}\n")
    reader.join(10)
    assert got == ["{}\n"]
    assert path.is_fifo()


def test_one_file_by_several_names(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("a")
    other.write_text("a")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    for name in ("a", "link", "hard", "../" + tmp_path.name + "/a"):
        assert is_same_file(tmp_path / name, other, path)
    assert not is_same_file(other, path, tmp_path / "link")
    assert not is_same_file(tmp_path, tmp_path)
    assert not is_same_file(tmp_path / "new", path, "rtsp://camera", "x" * 9999, "nul\0")


def test_a_link_is_followed_and_stays(tmp_path):
    target, link = tmp_path / "deep" / "target.json", tmp_path / "link.json"
    link.symlink_to("deep/target.json")
    write_text(link, "first")
    target.chmod(0o640)
    write_text(link, "second")
    assert link.is_symlink()
    assert target.read_text() == "second"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="round") as error:
        write_text(tmp_path / "round", "")
    assert error.value.filename == str(tmp_path / "round")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    os.chown(path, 1234, 1235)
    write_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_new_file_has_the_mode_that_the_user_gives_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_standard_output_gets_the_file_alone(capsys):
    with output_to_itself():
        sys.stdout.write("a line for the reader\n")
        write_text("-", "{}\n")
    out, err = capsys.readouterr()
    assert (out, err) == ("{}\n", "a line for the reader\n")


def test_an_open_file_is_written_to_where_it_stands(tmp_path):
    path = tmp_path / "out.txt"
    with path.open("w") as file:
        file.write("before\n")
        file.flush()
        write_text(f"/dev/fd/{file.fileno()}", "{}\n")
        file.seek(0, os.SEEK_END)
        file.write("after\n")
    assert path.read_text() == "before\n{}\nafter\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_names_the_file(tmp_path, error):
    path = tmp_path / "student.onnx"
    with pytest.raises(OSError, match="No space left") as raised, atomic_path(path):
        raise error
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(OSError, match="File too large") as raised, unfinished_folder(path) as own:
        raise OSError(errno.EFBIG, "File too large", str(own / "000.txt"))
    assert raised.value.filename == str(path)


def test_what_no_utf_8_holds_is_escaped(tmp_path):
    write_text(tmp_path / "a.html", "\udcff.png")
    assert (tmp_path / "a.html").read_bytes() == rb"\udcff.png"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": ' + "9" * 400 + "}", "a number of 400 digits is too large"),
        ('{"a": 9223372036854775808}', "a number of 19 digits is too large"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{"a":' * 90_000, "nested too deeply"),
        ("[1]", "wanted a JSON object"),
    ],
)
def test_json_that_no_figure_can_hold_is_refused(tmp_path, text, says):
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_json(path)


def test_json_with_the_largest_whole_number_is_read(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text('{"a": 9223372036854775807, "b": -1}')
    assert read_json(path) == {"a": 2**63 - 1, "b": -1}


def test_the_root_is_no_file_to_write():
    with pytest.raises(IsADirectoryError, match="Is a directory: '/'"):
        write_text("/", "text")


def test_a_suffix_has_any_case_and_a_file_that_is_there_goes_first(tmp_path):
    (tmp_path / "a.JPG").touch()
    for name in ("a.jpg", "a.JPG", "a.Jpg"):
        assert in_any_case(tmp_path / name) == tmp_path / "a.JPG"
    (tmp_path / "a.jpg").touch()
    assert in_any_case(tmp_path / "a.jpg") == tmp_path / "a.jpg"
    for missing in ("b.jpg", "a", "b" * 400 + ".jpg"):
        assert in_any_case(tmp_path / missing) == tmp_path / missing


def test_files_of_a_suffix_are_listed_in_any_case_without_hidden_ones(tmp_path):
    for name in ("b.TXT", "a.txt", ".c.txt", "d.text"):
        (tmp_path / name).touch()
    assert files_with(tmp_path, ".txt") == [tmp_path / "a.txt", tmp_path / "b.TXT"]
    assert files_with(tmp_path / "nothing", ".txt") == []
