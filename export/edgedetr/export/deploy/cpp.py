"""Write the C++ program that runs a package over ONNX Runtime or TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgedetr.runtime.errors import ArtifactError, UsageError
from edgedetr.runtime.files import unfinished_folder

if TYPE_CHECKING:
    from edgedetr.runtime.spec import ModelSpec

FILES = ("CMakeLists.txt", "edgedetr.hpp", "edgedetr.cpp", "edgedetr_tensorrt.cpp", "main.cpp")
"""What is generated."""

_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\?')
_TEMPLATES = Path(__file__).with_name("cpp_templates")


def write_program(spec: ModelSpec, output: Path) -> None:
    """Write the program for the packages of one spec, whole or not at all.

    Args:
        spec: The contract of the models.
        output: Folder to make.

    Raises:
        ArtifactError: If the program cannot feed such a model.
        UsageError: If the folder exists.
    """
    if spec.antialias:
        raise ArtifactError(
            "the spec has antialias = true, which the C++ program cannot do; give it a model that "
            "was trained with antialias = false"
        )
    if output.exists():
        raise UsageError(f"{output} exists; remove it or name another folder")
    with unfinished_folder(output) as folder:
        for name, text in program(spec).items():
            (folder / name).write_text(text, encoding="utf-8")
        folder.chmod(0o755)
        folder.rename(output)


def program(spec: ModelSpec) -> dict[str, str]:
    """Return the text of each of `FILES`."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - C++ is no HTML; every text of the spec passes `literal`
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = literal
    no_object = -1 if spec.no_object is None else spec.no_object % spec.columns
    values = {"spec": spec, "spec_json": spec.to_json(), "no_object": no_object}
    return {name: environment.get_template(f"{name}.jinja").render(values) for name in FILES}


def literal(text: str) -> str:
    r"""Return a string literal of C++; whatever is no plain character stands as its octal code.

    >>> print(literal('a "ä"?'))
    "a \042\303\244\042\077"
    """
    codes = text.encode("utf-8")
    return '"' + "".join(chr(c) if c in _PLAIN else f"\\{c:03o}" for c in codes) + '"'
