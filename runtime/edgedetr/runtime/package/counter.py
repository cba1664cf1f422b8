"""No way back: a vehicle keeps the counter of the newest package that it accepted, in a folder.

A package of a lower counter is refused, though its signature is as good as it ever was. The counter
rises once a signed package is in use, so that one that does not work here does not keep out the one
before it.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgedetr.runtime.errors import ArtifactError, SettingsError
from edgedetr.runtime.files import atomic_path, read_json
from edgedetr.runtime.settings import settings_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATE = "lowest_counter.json"
"""File of a state folder."""

_MAX_BYTES = 4096


@dataclass(frozen=True)
class LowestCounter:
    """The content of the file.

    Attributes:
        format: Version of the file.
        counter: The lowest counter that is accepted.
        package: File name of the package that raised it, for a reader.
    """

    format: Literal["edgedetr-counter-1"]
    counter: int
    package: str


class CounterKeeper:
    """Checks packages against the lowest counter of a state folder, and raises it.

    Attributes:
        state: The folder; where it does not exist, nothing was accepted yet. Without one, every
            package is accepted and nothing kept.
    """

    def __init__(self, state: str | os.PathLike[str] | None) -> None:
        self.state = None if state is None else Path(state)
        self._checked: tuple[int, Path] | None = None

    def check(self, counter: int, package: Path, *, is_trusted: bool) -> None:
        """Stop at a package that is older than one which this machine accepted.

        Args:
            counter: Counter of the package.
            package: The package, for messages.
            is_trusted: Whether its signature was checked; `accept` keeps no other's counter.

        Raises:
            ArtifactError: If it is older, or the folder holds no counter that can be read.
        """
        if self.state is None:
            return
        path = self.state / STATE
        lowest = _read(path)
        if counter < lowest.counter:
            raise ArtifactError(
                f"{package} has counter {counter}, older than {lowest.counter} of "
                f"{lowest.package}, which {path} says was accepted; to go back on purpose, package "
                "the old model again with a higher --counter"
            )
        self._checked = (counter, package) if is_trusted else None

    def accept(self, otherwise: Callable[[], object]) -> None:
        """Keep the counter of the package that was checked last as the lowest from now on.

        It never falls, also where several processes accept packages at once.

        Args:
            otherwise: Called before an error is raised.

        Raises:
            ArtifactError: If a newer package was accepted meanwhile, or the folder cannot be
                written to.
        """
        try:
            if self.state is not None and self._checked is not None:
                self._raise(self.state, *self._checked)
        except BaseException:
            otherwise()
            raise

    def _raise(self, state: Path, counter: int, package: Path) -> None:
        try:
            state.mkdir(parents=True, exist_ok=True)
            with _locked(state):
                self.check(counter, package, is_trusted=True)
                if counter > _read(state / STATE).counter:
                    _write(state / STATE, counter, package.name)
        except OSError as error:
            raise ArtifactError(
                f"{state} must be a folder that can be written to, for the counter of {package}: "
                f"{error.strerror or error}"
            ) from error


def _read(path: Path) -> LowestCounter:
    state = path.parent
    if os.path.lexists(state) and not state.is_dir():
        raise ArtifactError(
            f"{state} is no folder, so nothing keeps out older packages; name the vehicle's state "
            "folder"
        )
    if not os.path.lexists(path):
        return LowestCounter("edgedetr-counter-1", 0, "")
    try:
        found = settings_from_dict(LowestCounter, read_json(path, _MAX_BYTES), str(path))
    except (OSError, ValueError, SettingsError) as error:
        raise ArtifactError(
            f"{path} does not hold the lowest counter of a package: {error}; put back what was "
            "there, or remove it to accept any package once"
        ) from error
    return found


def _write(path: Path, counter: int, package: str) -> None:
    """Write the file so that a loss of power leaves the old one or the new one."""
    values = {"format": "edgedetr-counter-1", "counter": counter, "package": package}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write((json.dumps(values) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes for as long as the block takes."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
