"""Find a component by its module name: one file is one component."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from edgedetr.runtime.errors import UnknownNameError
from edgedetr.runtime.settings import nearest

if TYPE_CHECKING:
    from types import ModuleType


def names(package: str) -> list[str]:
    """List the components that a package holds, without importing them."""
    return sorted(m.name for m in pkgutil.iter_modules(import_module(package).__path__))


def find(package: str, name: str) -> ModuleType:
    """Import one component.

    Args:
        package: Dotted name of the package, for example ``edgedetr.runtime.backends``.
        name: File name of the component, without ``.py``.

    Returns:
        The component's module.

    Raises:
        UnknownNameError: If the package holds no such file; the message names the nearest.
    """
    if name not in names(package):
        kind = package.rpartition(".")[2]
        raise UnknownNameError(f"no {name!r} in {kind}{nearest(name, names(package))}")
    return import_module(f"{package}.{name}")
