"""TOML becomes a frozen dataclass; what does not fit is refused by key, found and wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.settings import load_settings, settings_from_dict


@dataclass(frozen=True)
class Inner:
    name: str = "a"
    kind: Literal["small", "large"] = "small"


@dataclass(frozen=True)
class Outer:
    rate: float
    sides: tuple[int, int] = (1, 2)
    words: tuple[str, ...] = ()
    limit: int | None = None
    is_on: bool = False
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must be at least 0")


def test_tables_and_lists_become_dataclasses_and_tuples(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('rate = 3\nsides = [4, 5]\nwords = ["x"]\n[inner]\nname = "b"\n')
    found = load_settings(Outer, path, ("inner.kind=large", "limit = 7", "inner.name=plain text"))
    wanted = Outer(3.0, (4, 5), ("x",), 7, inner=Inner("plain text", "large"))
    assert found == wanted
    assert isinstance(found.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1}, r"unknown key 'rat'; did you mean 'rate'\?"),
        ({}, "the key 'rate' is missing"),
        ({"rate": "1"}, "rate: wanted float, found '1'"),
        ({"rate": True}, "rate: wanted float, found True"),
        ({"rate": float("nan")}, "rate: wanted a finite number, found nan"),
        ({"rate": 1, "is_on": 1}, "is_on: wanted bool, found 1"),
        ({"rate": 1, "limit": 2**63}, "limit: wanted a smaller number, found a number of 64 bits"),
        ({"rate": 1, "sides": [1]}, r"sides: wanted 2 values, found \[1\]"),
        ({"rate": 1, "words": "x"}, "words: wanted a list, found 'x'"),
        ({"rate": 1, "words": ["\0"]}, "words: wanted text without a NUL"),
        ({"rate": 1, "inner": 3}, "inner: wanted a table of settings, found 3"),
        ({"rate": 1, "inner": {"kind": "lage"}}, r"'lage' is no choice; did you mean 'large'\?"),
        ({"rate": -1}, "rate must be at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(SettingsError, match=f"^run.toml.*{message}"):
        settings_from_dict(Outer, values, "run.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rate", "wanted key=value"),
        ("=1", "wanted key=value"),
        ("rate.x=1", "'rate' is no table"),
        ("rate=" + "9" * 5000, "--set rate: not a value"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(tmp_path, override, message):
    path = tmp_path / "a.toml"
    path.write_text("rate = 3\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(Outer, path, (override,))


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "a.toml"
    with pytest.raises(SettingsError, match="not a readable TOML file"):
        load_settings(Outer, path)
    path.write_text("rate =")
    with pytest.raises(SettingsError, match="not a readable TOML file"):
        load_settings(Outer, path)
