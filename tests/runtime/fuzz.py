"""Readers of files that somebody else wrote, each as a function of any bytes.

`test_fuzz.py` gives them what hypothesis makes up, and atheris, where it is installed, what the
coverage of the readers' code leads it to::

    pip install atheris
    python tests/runtime/fuzz.py manifest -max_total_time=300

It ends with status 77 and prints the input at the first error that is none of the project's own;
``python tests/runtime/fuzz.py manifest FILE`` reads that again. Further options are libFuzzer's.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import tempfile
import zlib
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The readers are imported when they are called: by then atheris has instrumented their modules.
READERS = (
    "health.digest",
    "images",
    "manifest",
    "package.archive",
    "package.reader",
    "self_test",
    "settings",
    "spec",
)

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2, 3, 255, 2**31, 2**63, 10**400, 0.0, -0.5, 1e308, 1e-320),
    *(float("nan"), float("inf"), "", "a", "x" * 5000, "\ud800", "a\nb", "../a", "/a", "fp16"),
    *("tensorrt==", "tensorrt>=10.3.0", "sm_80+", "sm_+", "sm_x", "models/m.onnx", "0" * 64),
    *([], [0, 0], [1, 1], [0.5] * 3, ["a", "a"], [[0, 0, 1, 1]], {}, {"a": 1}),
)
"""What stands in JSON now and then and nobody thinks of."""
SPEC = {"input_hw": [8, 16], "class_names": ["Car", "Pedestrian"], "mean": [0.5, 0.4, 0.3]}
MANIFEST = {
    "artifact": "a.onnx",
    "sha256": hashlib.sha256(b"model").hexdigest(),
    "kind": "engine",
    "command": "",
    "spec": SPEC,
    "versions": ["tensorrt>=10.3.0"],
    "parents": [{"name": "b.onnx", "sha256": ""}],
    "targets": ["sm_87"],
}
DIGEST = {
    "frames": 2,
    "means": [100, 50, 6, 2, 0.5],
    "deviations": [8, 6, 0.4, 1, 0.1],
    "layout_means": [0.0] * 128,
    "layout_deviations": [1.0] * 128,
    "class_counts": [2, 2],
    "size_counts": [1, 1, 1, 1, 0, 0],
}


def spec(data: bytes, folder: Path) -> None:
    """A spec in JSON and in TOML; what is read can be written and used."""
    from edgedetr.runtime.errors import EdgeDetrError
    from edgedetr.runtime.preprocess import normalisation_tables, placement
    from edgedetr.runtime.spec import spec_from_json, spec_from_toml

    with suppress(EdgeDetrError):
        found = spec_from_json(data.decode("utf-8", "replace"), "a.onnx")
        assert spec_from_json(found.to_json(), "again") == found
        assert all(table.shape == (256,) for table in normalisation_tables(found))
        assert min(placement((375, 1242), found).placed_hw) >= 1
        "".join(found.class_names).encode("utf-8")
    path = folder / "spec.toml"
    path.write_bytes(data)
    with suppress(EdgeDetrError):
        spec_from_toml(path)


def manifest(data: bytes, folder: Path) -> None:
    """A manifest beside an artifact, and what an engine's preflight makes of it."""
    from edgedetr.runtime.cuda.preflight import check_engine, runs_host_code
    from edgedetr.runtime.errors import EdgeDetrError
    from edgedetr.runtime.manifest import manifest_path, read_manifest

    artifact = folder / "a.onnx"
    artifact.write_bytes(b"model")
    manifest_path(artifact).write_bytes(data)
    with suppress(EdgeDetrError):
        found = read_manifest(artifact)
        runs_host_code(found, "tensorrt")
        check_engine(found, artifact, "tensorrt", "10.3.0", "8.7")


def digest(data: bytes, folder: Path) -> None:
    """A health digest, and a window that is held against it."""
    import numpy as np

    from edgedetr.runtime.errors import EdgeDetrError
    from edgedetr.runtime.health.digest import figures_of_frame, read_digest
    from edgedetr.runtime.health.image_figures import CameraProbe
    from edgedetr.runtime.types import Detections

    path = folder / "a.health.json"
    path.write_bytes(data)
    with suppress(EdgeDetrError):
        found = read_digest(path)
        none = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, int))
        frame = figures_of_frame(CameraProbe()(np.zeros((80, 160, 3), np.uint8)), none, 2)
        found.drifts([frame])


def image(data: bytes, folder: Path) -> None:
    """An image, and its header alone."""
    from edgedetr.runtime.errors import EdgeDetrError
    from edgedetr.runtime.images import image_hw, read_image

    path = folder / "a.png"
    path.write_bytes(data)
    with suppress(EdgeDetrError):
        assert read_image(path).ndim == 3
    with suppress(EdgeDetrError):
        assert len(image_hw(path)) == 2


def archive(data: bytes, folder: Path) -> None:
    """A tar, and every file in it."""
    from edgedetr.runtime.errors import EdgeDetrError
    from edgedetr.runtime.package.archive import open_archive

    path = folder / "a.tar"
    path.write_bytes(data)
    with suppress(EdgeDetrError):
        found = open_archive(path)
        for name, member in found.members.items():
            assert sum(map(len, found.blocks(name))) == member.size


def package(data: bytes, folder: Path) -> None:
    """One JSON file of an unsigned package; the first byte says which."""
    from edgedetr.runtime.errors import EdgeDetrError
    from edgedetr.runtime.package.reader import read_package
    from edgedetr.runtime.self_test import check_inputs

    files = _package_files()
    names = ("MANIFEST.json", "spec.json", "golden.json")
    replaced = names[data[0] % 3] if data else names[0]
    files[replaced] = data[1:]
    if replaced != "MANIFEST.json":
        files["MANIFEST.json"] = _package_manifest(files)
    place = folder / "package"
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    with suppress(EdgeDetrError), read_package(place, require_signature=False) as found:
        found.frame()
        found.model_path()
        found.golden_answer(found.manifest.models[0].name)
        if found.spec.input_hw == (8, 16):
            check_inputs(found.golden, found.spec)


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    target.__name__: target for target in (spec, manifest, digest, image, archive, package)
}


def seeds(name: str) -> list[bytes]:
    """Return good inputs of a target, from which others are made."""
    if name in {"spec", "manifest", "digest"}:
        toml = b'input_hw = [8, 16]\nclass_names = ["Car"]\nmean = [0.5, 0.4, 0.3]\n'
        values = {"spec": SPEC, "manifest": MANIFEST, "digest": DIGEST}[name]
        return [json.dumps(values).encode(), toml]
    if name == "image":
        return [_png(), b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x02\x00\x02\x01\x01\x11\x00\xff\xd9"]
    files = _package_files()
    if name == "package":
        names = ("MANIFEST.json", "spec.json", "golden.json")
        return [bytes([k]) + files[n] for k, n in enumerate(names)]
    from edgedetr.runtime.package.archive import TAR_END, padding, tar_header

    few = ("golden.ppm", "models/m.onnx", "spec.json")
    members = [tar_header(n, len(files[n])) + files[n] + bytes(padding(len(files[n]))) for n in few]
    return [b"".join(members) + TAR_END]


def mutated(good: Sequence[bytes], data: bytes, max_size: int, seed: int) -> bytes:
    """Change a few values of good JSON as often as bytes; the first byte of a package stays."""
    import atheris

    random = Random(seed)  # noqa: S311 - nothing secret
    if random.random() < 0.5:
        data = random.choice(good)
    start = data[:1] if data[:1] < b"\x03" else b""
    try:
        tree: Any = [json.loads(data[len(start) :])]
    except (ValueError, RecursionError):
        tree = None
    if tree is None or random.random() < 0.3:
        return bytes(atheris.Mutate(data, max_size))
    for _ in range(random.randint(1, 3)):
        _change(tree, random)
    return (start + json.dumps(tree[0]).encode())[:max_size]


def _change(tree: Any, random: Random) -> None:
    """Replace, remove or add one value of a nested list."""
    holder, key = tree, 0
    while True:
        inner = holder[key]
        keys = [*inner] if isinstance(inner, dict) else []
        keys = [*range(len(inner))] if isinstance(inner, list) else keys
        if not keys or random.random() < 0.3:
            break
        holder, key = inner, random.choice(keys)
    if holder is not tree and random.random() < 0.2:
        del holder[key]
    elif isinstance(holder[key], dict) and random.random() < 0.5:
        holder[key][random.choice(["", "x", "spec", "std"])] = deepcopy(random.choice(ODD))
    else:
        holder[key] = deepcopy(random.choice(ODD))


def main() -> None:
    """Fuzz the target that the first argument names."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    if not TARGETS.keys() & set(sys.argv[1:2]):
        sys.exit(
            f"wanted one of {', '.join(TARGETS)}, found {' '.join(sys.argv[1:2]) or 'nothing'}"
        )
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["edgedetr"]):
        for reader in READERS:
            __import__(f"edgedetr.runtime.{reader}")
    with tempfile.TemporaryDirectory() as text:
        folder, corpus = Path(text) / "files", Path(text) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        for number, seed in enumerate(seeds(name)):
            (corpus / str(number)).write_bytes(seed)
        if not any(Path(a).exists() for a in sys.argv[1:]):
            sys.argv.append(str(corpus))
        options = ["-max_len=20000", "-keep_seed=1", *sys.argv[1:]]
        atheris.Setup(
            [sys.argv[0], *options],
            lambda data: TARGETS[name](data, folder),
            custom_mutator=partial(mutated, seeds(name))
            if name not in {"image", "archive"}
            else None,
        )
        atheris.Fuzz()


def _png() -> bytes:
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(2 * (1 + 6)))),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _package_files() -> dict[str, bytes]:
    golden: dict[str, Any] = {
        "inputs": [
            {"frame_hw": hw, "sha256": "", "values": [0.0] * 256} for hw in ([14, 24], [19, 45])
        ],
        "frame_hw": [2, 3],
        "answers": [
            {
                "model": "models/m.onnx",
                "boxes": [[0, 0, 3, 3]],
                "scores": [0.5],
                "labels": [1],
                "box_error_px": 0.5,
                "score_error": 0.001,
            }
        ],
    }
    files = {
        "golden.json": json.dumps(golden).encode(),
        "golden.ppm": b"P6\n3 2\n255\n" + bytes(18),
        "models/m.onnx": b"graph",
        "spec.json": json.dumps(SPEC).encode(),
    }
    return files | {"MANIFEST.json": _package_manifest(files)}


def _package_manifest(files: dict[str, bytes]) -> bytes:
    listed = [
        {"name": n, "sha256": hashlib.sha256(d).hexdigest(), "size": len(d)}
        for n, d in sorted(files.items())
        if n != "MANIFEST.json"
    ]
    model = {"name": "models/m.onnx", "kind": "onnx", "precision": "fp32"}
    values = {
        "format": "edgedetr-package-1",
        "models": [model],
        "files": listed,
        "gates": [],
        "signed_by": "",
        "versions": [],
        "command": "",
    }
    return json.dumps(values).encode()


if __name__ == "__main__":
    main()
