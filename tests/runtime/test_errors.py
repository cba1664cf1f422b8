"""The tree of errors is the one that its docstring shows, with the statuses that it names."""

import inspect
import re
from typing import Any

import pytest

from edgedetr.runtime import errors

CLASSES: dict[str, Any] = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value)
}


def drawn():
    """Name the parent of each error as the docstring draws it, by how far it is indented."""
    above, found = [(-1, "Exception")], {}
    for line in (errors.__doc__ or "").splitlines():
        name = re.search(r"\b(\w+Error)\b", line)
        if line.startswith("    ") and name:
            while above[-1][0] >= name.start():
                above.pop()
            found[name[1]] = above[-1][1]
            above.append((name.start(), name[1]))
    return found


def test_the_docstring_draws_every_error_below_its_parent():
    assert drawn() == {name: value.__base__.__name__ for name, value in CLASSES.items()}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("EdgeDetrError", 1),
        ("DataError", 1),
        ("ArtifactError", 1),
        ("GateError", 1),
        ("BackendError", 1),
        ("BackendGoneError", 1),
        ("StuckError", 1),
        ("UsageError", 2),
        ("SettingsError", 2),
        ("UnknownNameError", 2),
        ("DeviceLostError", 3),
    ],
)
def test_a_command_ends_with_the_status_of_its_error(name, status):
    assert CLASSES[name]("why").exit_code == status


def test_no_status_is_missing_here():
    (mark,) = test_a_command_ends_with_the_status_of_its_error.pytestmark
    assert {name for name, _ in mark.args[1]} == CLASSES.keys()
