"""The signed package that ships: its files, its signature, its reader."""

from edgedetr.runtime.package.reader import read_package

__all__ = ["read_package"]
