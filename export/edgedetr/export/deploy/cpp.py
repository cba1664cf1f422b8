"""Write the C++ program that runs a package over ONNX Runtime or TensorRT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedetr.export.deploy.folder import new_folder, refuse_antialias, render, write_texts

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.spec import ModelSpec

FILES = ("CMakeLists.txt", "edgedetr.hpp", "edgedetr.cpp", "edgedetr_tensorrt.cpp", "main.cpp")
"""What is generated."""

_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\?')


def write_program(spec: ModelSpec, output: Path) -> None:
    """Write the program for the packages of one spec, whole or not at all.

    Args:
        spec: The contract of the models.
        output: Folder to make.

    Raises:
        ArtifactError: If the program cannot feed such a model.
        UsageError: If the folder exists.
    """
    refuse_antialias(spec, "the C++ program")
    with new_folder(output) as folder:
        write_texts(folder, program(spec))


def program(spec: ModelSpec) -> dict[str, str]:
    """Return the text of each of `FILES`."""
    no_object = -1 if spec.no_object is None else spec.no_object % spec.columns
    values = {"spec": spec, "spec_json": spec.to_json(), "no_object": no_object}
    return {name: render("cpp", name, values, literal=literal) for name in FILES}


def literal(text: str) -> str:
    r"""Return a string literal of C++; whatever is no plain character stands as its octal code.

    >>> print(literal('a "ä"?'))
    "a \042\303\244\042\077"
    """
    codes = text.encode("utf-8")
    return '"' + "".join(chr(c) if c in _PLAIN else f"\\{c:03o}" for c in codes) + '"'
