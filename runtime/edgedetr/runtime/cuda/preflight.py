"""Refuse an engine that was built for another library, version or GPU, before it is loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgedetr.runtime.cuda.device import TEGRA
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from edgedetr.runtime.manifest import Manifest

TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


def check_engine(
    manifest: Manifest, path: Path, library: str, version: str, compute_capability: str
) -> None:
    """Stop unless the engine is for this library, version and GPU.

    A builder that the manifest names as ``tensorrt>=10.3.0`` made an engine for that version and
    later ones; one named as ``tensorrt==10.3.0`` for that version alone.

    Args:
        manifest: Of the engine.
        path: The engine, for the message.
        library: Name of the package that would run it.
        version: Of that package.
        compute_capability: Of this machine's GPU, for example ``8.7``.

    Raises:
        ArtifactError: If it is not.
    """
    if manifest.kind != "engine":
        raise ArtifactError(f"{path} is of kind {manifest.kind}, wanted an engine")
    target = "sm_" + compute_capability.replace(".", "")
    builder, sign, built = _builder(manifest, path)
    fits = (
        builder == library
        and (built == version or (sign == ">=" and _is_later(version, built)))
        and any(_covers(t, target) for t in manifest.targets)
    )
    if not fits:
        source = manifest.parents[0].name if manifest.parents else "the ONNX file"
        raise ArtifactError(
            f"{path} was built with {TITLES[builder]} {built} for "
            f"{', '.join(manifest.targets) or 'no GPU that its manifest names'}; this machine has "
            f"{TITLES[library]} {version} on {target}. Rebuild it here: edgedetr export engine "
            f"{source} --backend {library}"
        )


def runs_host_code(manifest: Manifest, library: str) -> bool:
    """Return whether an engine brings the code that lets later versions of TensorRT run it."""
    return any(v.startswith(f"{library}>=") for v in manifest.versions)


def builder_of(manifest: Manifest, path: Path) -> str:
    """Return which library built an engine, ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        ArtifactError: If the manifest names none.
    """
    return _builder(manifest, path)[0]


def _builder(manifest: Manifest, path: Path) -> tuple[str, str, str]:
    """Return name, ``==`` or ``>=``, and version of what built an engine."""
    for text in manifest.versions:
        for sign in ("==", ">="):
            name, found, version = text.partition(sign)
            if found and name in TITLES:
                return name, sign, version
    raise ArtifactError(
        f"the manifest of {path} names no builder, wanted "
        f"{' or '.join(TITLES)} among its versions; build it again: edgedetr export engine"
    )


def _covers(wanted: str, target: str) -> bool:
    """Return whether what an engine was built for covers a GPU.

    >>> _covers("sm_86", "sm_86"), _covers("sm_80+", "sm_86"), _covers("sm_80+", "sm_121")
    (True, True, True)
    >>> _covers("sm_86", "sm_87"), _covers("sm_80+", "sm_87")
    (False, False)
    """
    least = re.fullmatch(r"sm_([0-9]{1,4})\+", wanted)
    if least:
        return int(target[3:]) >= int(least[1]) and target not in TEGRA
    return wanted == target


def _is_later(version: str, than: str) -> bool:
    """Compare the numbers of two versions."""
    found, least = (
        [int(p) for p in v.split(".")[:8] if re.fullmatch("[0-9]{1,9}", p)] for v in (version, than)
    )
    return found >= least
