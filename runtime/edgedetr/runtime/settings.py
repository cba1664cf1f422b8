"""TOML to frozen dataclass: every key known, every value checked, no setting changed silently."""

from __future__ import annotations

import difflib
import math
import sys
import types
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgedetr.runtime.errors import SettingsError
from edgedetr.runtime.files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

MOST_INTEGER = 1 << 63
"""Integers stay below it, as those of TOML and of every array do."""
MOST_SHOWN = 200
"""Characters of a wrong value that a message shows."""


def load_settings(kind: type[T], path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> T:
    """Read a TOML file into a frozen dataclass, tables into nested dataclasses.

    Args:
        kind: The dataclass to fill.
        path: The TOML file.
        overrides: ``key=value`` strings; a dotted key reaches into a table. The value is TOML;
            what is not TOML is taken as a string.

    Raises:
        SettingsError: If the file is no TOML, a key is unknown or a value is wrong.
    """
    path = Path(path)
    try:
        values: dict[str, Any] = tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not a readable TOML file: {error}") from error
    for override in overrides:
        _apply(values, override)
    return settings_from_dict(kind, values, str(path))


def settings_from_dict(kind: type[T], values: Mapping[str, Any], source: str) -> T:
    """Fill a frozen dataclass from plain values.

    Args:
        kind: The dataclass.
        values: Plain values, nested for nested dataclasses.
        source: Where they came from, for the messages.

    Raises:
        SettingsError: If a key is unknown or missing, or a value is of the wrong type or range.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"{source}: wanted a table of settings, found {_shown(values)}")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise SettingsError(f"{source}: unknown key {key!r}{nearest(key, known)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise SettingsError(f"{source}: the key {name!r} is missing")
    converted = {k: _convert(hints[k], v, f"{source}: {k}") for k, v in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from error


def nearest(word: str, choices: Iterable[str]) -> str:
    """Name the choice nearest to a misspelt word, as the tail of a message.

    >>> nearest("epoch", ["epochs", "seed"])
    "; did you mean 'epochs'?"
    >>> nearest("zzz", ["epochs", "seed"])
    '; choose from epochs, seed'
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose from {', '.join(choices)}"


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"--set {override}: wanted key=value")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    except (ValueError, RecursionError) as error:  # thousands of digits or brackets
        raise SettingsError(f"--set {key}: not a value: {error}") from error
    *tables, name = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {override}: {table!r} is no table")
    values[name] = value


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401, PLR0911
    """Check one plain value against a type hint; lists become tuples."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return settings_from_dict(hint, value, where)
    if origin is Literal:
        if value not in args:
            raise SettingsError(f"{where}: {value!r} is no choice{nearest(str(value), args)}")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is dict:
        return _convert_table(args[1], value, where)
    if origin is tuple:
        return _convert_tuple(args, value, where)
    return _convert_scalar(hint, value, where)


def _convert_table(hint: Any, value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    """Check a table of free keys; where its values are tables, those too."""
    table: dict[str, Any] = _convert_scalar(dict, value, where)
    if is_dataclass(hint) or get_origin(hint) is dict:
        return {k: _convert(hint, v, f"{where}.{k}") for k, v in table.items()}
    return table


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(value, (list, tuple)):
        raise SettingsError(f"{where}: wanted a list, found {_shown(value)}")
    if args[-1] is Ellipsis:
        args = args[:1] * len(value)
    if len(args) != len(value):
        raise SettingsError(f"{where}: wanted {len(args)} values, found {_shown(value)}")
    return tuple(_convert(a, v, where) for a, v in zip(args, value, strict=True))


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < MOST_INTEGER else value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{where}: wanted {hint.__name__}, found {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{where}: wanted a finite number, found {value}")
    if isinstance(value, int) and abs(value) >= MOST_INTEGER:
        raise SettingsError(f"{where}: wanted a smaller number, found {_shown(value)}")
    if isinstance(value, str) and "\0" in value:
        raise SettingsError(f"{where}: wanted text without a NUL, found {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """Return a value as text, shortened; of a number with thousands of digits its size."""
    if isinstance(value, int) and abs(value) >= MOST_INTEGER:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
