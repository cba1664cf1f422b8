"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_TEXT_BYTES = 16 << 20
"""Largest settings, manifest or digest that is read."""
MOST_LOG_BYTES = 512 << 20
"""Largest log of a training run that is read."""
UNFINISHED = ".tmp"
"""What the name of every unfinished file and folder ends with; it begins with a dot."""
STANDARD_OUTPUT = "-"
"""The path that stands for standard output."""

_outputs: list[TextIO] = []  # standard output, while lines for a reader go elsewhere


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside a file, and put what it holds in place when the block succeeds.

    The folder is made when it is missing. Links are followed, and a file that is replaced hands its
    mode and owner on. What is no file (a device, a pipe, ``-`` for standard output) stays what it
    is and gets the bytes. After an error nothing is left of the temporary file.

    Raises:
        OSError: If it cannot be written; the error names ``path``.
    """
    with _named(path) as names:
        if _is_written_through(path):
            handle, name = tempfile.mkstemp(UNFINISHED)
            os.close(handle)
            target, temporary = None, Path(name)
        else:
            target = _resolved(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = _unfinished_name(target)
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        names.append(str(temporary))
        try:
            before = temporary.stat()
            yield temporary
            if target is None:
                _write_through(path, temporary)
            else:
                _hand_on(target, temporary, before.st_mode)
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def unfinished_folder(beside: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a hidden folder beside a path; after the block it is gone, with all it still holds."""
    with _named(beside) as names:
        target = _resolved(beside)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = _unfinished_name(target)
        names.append(str(folder))
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, UTF-8, whole or not at all; what no UTF-8 can hold is escaped."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextmanager
def output_to_itself() -> Iterator[None]:
    """Keep standard output for a file called ``-``; what is printed goes to standard error."""
    _outputs.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _outputs.pop()


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a file of unknown origin.

    Raises:
        ValueError: If it is larger than ``most`` bytes, or is a device or a pipe, which may never
            end.
        OSError: If it cannot be read.
    """
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError("it is no regular file")
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size or most  # what the system makes up has none
        data = file.read(min(size, most) + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most / 2**20:g} MiB")
    return data


def read_text(path: str | os.PathLike[str], most: int = MOST_TEXT_BYTES) -> str:
    """Read a UTF-8 text file of unknown origin, with or without a byte order mark.

    Raises:
        ValueError: If it is larger than ``most`` bytes or is no UTF-8.
        OSError: If it cannot be read.
    """
    return read_bytes(path, most).decode("utf-8-sig")


def in_any_case(path: Path) -> Path:
    """Return a file, or where it is missing, the one whose suffix has another case.

    Cameras and Windows write ``.JPG`` and ``.TXT`` where labels and lists say ``.jpg``, ``.txt``.
    """
    if os.path.isfile(path):  # noqa: PTH113 - Path raises where a name is too long
        return path
    suffixes = (path.suffix.lower(), path.suffix.upper())
    others = [path.with_suffix(suffix) for suffix in suffixes if suffix != path.suffix]
    return next((other for other in others if os.path.isfile(other)), path)  # noqa: PTH113


def files_with(folder: Path, suffix: str) -> list[Path]:
    """List a folder's files of a suffix, in upper or lower case, by name; not the hidden ones."""
    if not folder.is_dir():
        return []
    named = (p for p in folder.iterdir() if p.suffix.lower() == suffix and p.name[0] != ".")
    return sorted(named)


def without_nan(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Replace NaN, which JSON does not know, by null, also inside lists and objects.

    >>> without_nan({"ap": [0.5, math.nan]})
    {'ap': [0.5, None]}
    """
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: str | os.PathLike[str], most: int = MOST_TEXT_BYTES) -> dict[str, Any]:
    """Read a JSON object of unknown origin: every key once, every number finite.

    Raises:
        ValueError: If it is larger than ``most`` bytes or is no such object.
        OSError: If it cannot be read.
    """
    try:
        values = json.loads(
            read_text(path, most),
            object_pairs_hook=_each_once,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_int64,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("wanted a JSON object")  # noqa: TRY004 - what a file holds is a value
    return values


def is_same_file(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> bool:
    """Tell whether a path leads to the same file as one of others, by links of any kind too."""
    there = [p for p in (path, *others) if os.path.isfile(p)]  # noqa: PTH113 - it never raises
    return path in there and any(Path(path).samefile(other) for other in there[1:])


def sha256(path: str | os.PathLike[str]) -> str:
    """Hash a file's bytes, as hexadecimal text."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[list[str]]:
    """Let errors of the system name ``path``: not nothing, and no temporary file of the list."""
    names: list[str] = []
    try:
        yield names
    except OSError as error:
        is_ours = error.filename is None or str(error.filename).startswith(tuple(names))
        if error.errno is None or not is_ours:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    except Exception as error:  # libraries raise errors of their own
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error


def _is_written_through(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is standard output, an open file by its number, or a device."""
    if os.fspath(path) == STANDARD_OUTPUT or _descriptor(path) is not None:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, RuntimeError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return N of ``/dev/fd/N``, ``/dev/stdout`` and the like; None of any other path.

    To resolve such a link would name the file behind it, and that must not be replaced.
    """
    place = Path(path)
    for _ in range(40):
        folder = os.path.realpath(place.parent)
        if folder == f"/proc/{os.getpid()}/fd" and place.name.isdecimal():
            return int(place.name)
        if not place.is_symlink():
            return None
        place = Path(folder) / place.readlink()
    return None


def _write_through(path: str | os.PathLike[str], temporary: Path) -> None:
    number = _descriptor(path)
    with temporary.open("rb") as source:
        if os.fspath(path) == STANDARD_OUTPUT:
            output = _outputs[-1] if _outputs else sys.stdout
            output.flush()
            shutil.copyfileobj(source, output.buffer)
            output.flush()
            return
        sys.stdout.flush()
        if number is None:
            with Path(path).open("wb") as sink:
                shutil.copyfileobj(source, sink)
        else:
            with os.fdopen(os.dup(number), "wb") as sink:
                shutil.copyfileobj(source, sink)


def _resolved(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).resolve()
    except RuntimeError as error:  # Python 3.12 and before
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path)) from error


def _unfinished_name(target: Path) -> Path:
    """Name a hidden file beside another; short, since the other's name may be as long as can be."""
    if not target.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return target.with_name(f".{secrets.token_hex(6)}{UNFINISHED}")


def _hand_on(target: Path, temporary: Path, mode: int) -> None:
    """Give a temporary file the mode and owner of what it replaces, or the mode of a new file."""
    try:
        old = target.stat()
    except FileNotFoundError:
        temporary.chmod(stat.S_IMODE(mode))
        return
    with suppress(PermissionError):  # of a file that is another's the new owner is who writes it
        os.chown(temporary, old.st_uid, old.st_gid)
    temporary.chmod(stat.S_IMODE(old.st_mode))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return values


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _int64(text: str) -> int:
    if len(text) > len(str(-(2**63))) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"a number of {len(text)} digits is too large")
    return int(text)
