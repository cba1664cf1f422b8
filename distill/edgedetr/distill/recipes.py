"""The recipes that come with the package: configs of whole runs, by name.

In a wheel they lie beside this file, in a checkout in ``distill/configs``.
"""

from __future__ import annotations

from pathlib import Path

from edgedetr.runtime.errors import UsageError
from edgedetr.runtime.files import read_text
from edgedetr.runtime.settings import nearest


def recipes() -> dict[str, Path]:
    """Return the TOML file of each recipe by its name."""
    packed = Path(__file__).with_name("configs")
    folder = packed if packed.is_dir() else Path(__file__).parents[2] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def recipe_path(config: Path) -> Path:
    """Return the file of a config: the path itself, or that of the recipe of this name.

    Raises:
        UsageError: If it is a bare name, and neither a file nor a recipe.
    """
    if config.suffix or len(config.parts) != 1 or config.exists():
        return config
    found = recipes()
    if config.name not in found:
        raise UsageError(
            f"{config}: neither a file nor a recipe{nearest(config.name, found)}; edgedetr distill "
            "recipes lists them"
        )
    return found[config.name]


def recipe_text(path: Path) -> str:
    """Read a config.

    Raises:
        UsageError: If it cannot be read, or is no text of a config's size.
    """
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable config: {error}") from error


def summary(path: Path) -> str:
    """Return the first sentences of a recipe: its comment up to the first empty one."""
    words: list[str] = []
    for line in recipe_text(path).splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or not text:
            break
        words.append(text)
    return " ".join(words)
