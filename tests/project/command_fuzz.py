"""Command lines that nobody thinks of, made from what click knows of every command.

`test_command_fuzz.py` runs them. A new command is among them by itself; a new parameter is offered
whatever there is, and what fits it once `FITTING` knows its name.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from copy import deepcopy
from random import Random
from typing import TYPE_CHECKING, Any

import click

from edgedetr.runtime.cli import edgedetr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


ONNX = ("tiny.onnx", "conv.onnx", "quantized.onnx")
FITTING = {
    "arms": ("none", "none,clock", "none,,", "+"),
    "backend": ("onnxruntime", "auto", "openvino", "../auto", "__init__"),
    "batch": ("1,1,1", "1,2", "4,1,1", "0,0,0", "1,1,99999999999999999999"),
    "calibration": ("stats.json",),
    "candidate": (*ONNX, "hollow.safetensors"),
    "checkpoint": ("hollow.safetensors", "foreign.safetensors", "conv.onnx"),
    "clipping": ("clipping.onnx", *ONNX),
    "compute_capabilities": ("8.6", "8.", "-8.6", "8.6.1", "٨.٦"),
    "config": ("config.toml",),
    "data": ("kitti", "coco"),
    "detections": ("kitti/training/label_2", "results.json"),
    "digest": ("digest.json",),
    "engines": ("foreign.engine",),
    "exclude": ("conv", "(a+)+$", "(", "(?P<x>", "(.*)*(.*)*(.*)*x$"),
    "golden_frame": ("pictures/0.png", "pictures/1.jpg"),
    "images": ("pictures", "pictures/0.png", "odd"),
    "include": ("conv", "(.*)*(.*)*(.*)*x$", "[", "\\"),
    "key": ("key", "new-key"),
    "kind": ("kitti", "coco", "../coco", "__init__"),
    "labels": ("kitti/training/label_2",),
    "licenses": ("license.txt",),
    "metrics_address": ("127.0.0.1", "256.1.1.1", "::1", "a" * 70 + ".x", "a..b"),
    "model": (*ONNX, "package.tar", "package"),
    "models": (*ONNX,),
    "overrides": (
        *("epochs=1", "seed=-1", "epochs=", "=", "epochs", "seed=" + "9" * 5000),
        *("optimizer.weight_decay=nan", "data.classes=[]", 'data.classes=["Car","Car"]'),
        *("method.clock=5", "method.clock.weight=1e400", "epochs=" + "[" * 4000, "a.b.c=1"),
        *('teacher="hollow.safetensors"', "data.root='kitti'", "student.input_hw=[32000,32]"),
        *("student.family='retinanet'", "class_map.Car=[1]", "batch_size=9223372036854775807"),
    ),
    "parity": ("verify.json",),
    "path": ("package.tar", "package"),
    "public_key": ("key.pub",),
    "reference": (*ONNX, "hollow.safetensors"),
    "references": ("tiny.onnx", "conv.onnx"),
    "report": ("report.json",),
    "report_json": ("report.json",),
    "root": ("kitti", "coco", "voc"),
    "run": ("run",),
    "source": ("pictures", "pictures/0.png", "odd", "-1", "٣", "9" * 20, "http://[::1/a", "file:x"),
    "spec": ("spec.toml",),
    "stats": ("stats.json",),
    "teacher": ("hollow.safetensors", "tiny.onnx"),
    "timing_cache": ("timing.cache",),
    "truth": ("coco/val.json",),
    "url": (
        *("http://127.0.0.1:9/metrics", "http://127.0.0.1:99999/", "http://[::1/", "file:///etc"),
        *("http://" + "a" * 70 + ".com/", "http://a..b/", "http://127.0.0.1:9/\x01", "http://:x/"),
    ),
}
"""What suits a parameter, by its name: files of the scene, or texts."""
WRITTEN = frozenset({"figures", "html", "json_path", "out", "output", "video"})
"""Names of parameters that name what is written."""
LONG = {"rate_hz": ("500", "1000"), "workers": ("1",)}
"""All that is offered where other values that are right take minutes."""
ALWAYS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("bench", "latency"): ("--frames", "2"),
    ("device", "check"): ("--frames", "2"),
    ("data", "synth"): ("--frames", "2", "--workers", "1"),
}
"""Options of commands that take minutes without them; a later one of the same name counts."""
EITHER = ("data", "images")
"""Of these commands want one."""
PLACES = (
    *("", ".", "..", "/", "-", "no/such/file", "n" * 300, "a\nb", "\x1b[31mred", "\u202eabc"),
    *("\udcff.json", "~nobody/x", "~", "/dev/null", "loop", "to-nothing", "pictures", "x.", "x/"),
)
NEW = tuple(sorted({*PLACES} - {"..", "/"}))
"""Where something may be written: what it makes lies in the scene."""
TEXTS = (
    *("", " ", "a", "-", "--", "nan", "inf", "-inf", "-0", "1e400", "9" * 5000, "x" * 10_000),
    *("\x1b[2J", "a\nb", "ü\u202e", "\udcff", "%s{0}", "[]", "(.*)*(.*)*(.*)*x$", "../..", "a=b"),
)
NUMBERS = ("nan", "inf", "-inf", "-0", "0", "-1", "1", "2", "1e400", "1e-320", "", "x", "٣", "1_0")
HUGE = ("9" * 30, "9" * 5000, "-" + "9" * 30)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**400, -0.5, 1e308, float("nan"), float("inf")),
    *("", "a", "x" * 5000, "\ud800", "a\n\x1b[31mb", "../a", "0" * 64, [], [[]], [1, "a"], {}),
    *({"a": 1}, [0.5] * 3),
)
"""What stands in JSON now and then and nobody thinks of."""


def commands() -> Iterator[tuple[str, ...]]:
    """Name every command that is no group."""
    yield from _below(edgedetr, click.Context(edgedetr), ())


def command(names: tuple[str, ...]) -> click.Command:
    """Return a command."""
    found: click.Command = edgedetr
    for name in names:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(edgedetr), name)
        assert inner
        found = inner
    return found


def _below(
    group: click.Group, context: click.Context, names: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(context):
        inner = group.get_command(context, name)
        if isinstance(inner, click.Group):
            yield from _below(inner, context, (*names, name))
        else:
            yield (*names, name)


def arguments(names: tuple[str, ...], scene: Path, random: Random) -> list[str]:
    """Make a command line; files that are made for it lie in the scene's ``made``."""
    line = [*names, *ALWAYS.get(names, ())]
    odd_share, left_out = random.choice((0.0, 0.1, 0.5)), random.choice(EITHER)
    for parameter in command(names).params:
        likely = parameter.required or (parameter.name in EITHER and parameter.name != left_out)
        if random.random() > (0.95 if likely else 0.25):
            continue
        if getattr(parameter, "is_flag", False):
            line.append(random.choice([*parameter.opts, *parameter.secondary_opts]))
            continue
        several = parameter.multiple or parameter.nargs == -1
        for _ in range(random.randint(1, 2) if several else 1):
            value = _value(parameter, scene, random, odd=random.random() < odd_share)
            if isinstance(parameter, click.Argument):
                line.append(value)
            elif random.random() < 0.5:
                line += [parameter.opts[-1], value]
            else:
                line.append(f"{parameter.opts[-1]}={value}")
    if random.random() < 0.03:
        line.append(random.choice(TEXTS))
    return line


def _value(parameter: click.Parameter, scene: Path, random: Random, *, odd: bool) -> str:
    """Choose what suits a parameter, or what is odd."""
    kind, name = parameter.type, parameter.name or ""
    if name in WRITTEN:
        return random.choice(NEW if odd else ("o.json", "o.onnx", "o.mp4", "o", "o.html"))
    suits = FITTING.get(name, ())
    if isinstance(kind, click.Path):
        files = _files(scene)
        fits = random.choice(suits or files)
        if odd and random.random() < 0.5:
            return random.choice([*PLACES, *files, *ODD_FILES])
        return _changed(scene, fits, random) if odd else fits
    if isinstance(kind, click.Choice):
        return random.choice(TEXTS if odd else [str(c) for c in kind.choices])
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        return random.choice(LONG.get(name) or (NUMBERS + HUGE if odd else _near(kind)))
    return random.choice(suits if suits and not odd else TEXTS)


def _near(kind: click.IntRange | click.FloatRange) -> tuple[str, ...]:
    """Return numbers about the bounds of a range, but none so large that work takes long."""
    least, most = kind.min or 0, kind.max
    beyond = [str(most + 1)] if most is not None else []
    return (*(str(least + 1),) * 5, str(least), str(least - 1), *beyond)


def _files(scene: Path) -> list[str]:
    return sorted(p.name for p in scene.iterdir() if p.name not in {"home", "made", "tmp"})


def _changed(scene: Path, name: str, random: Random) -> str:
    """Copy a file or folder that suits and change it: values where it is JSON, else bytes."""
    source = scene / name
    inside = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else []
    if not (source.is_file() or inside) or name == "odd":  # a text, nothing, or without an end
        return name
    target = scene / "made" / f"{random.randrange(10**6)}-{source.name}"
    target.parent.mkdir(exist_ok=True)
    inner = target
    if source.is_dir():
        shutil.copytree(source, target)
        inner = target / random.choice(inside).relative_to(source)
    else:
        shutil.copy(source, target)
    data = inner.read_bytes()
    is_json = inner.suffix == ".json" and random.random() < 0.6
    inner.write_bytes((is_json and _json_changed(data, random)) or _bytes_changed(data, random))
    return str(target.relative_to(scene))


def _json_changed(data: bytes, random: Random) -> bytes:
    """Change values; return nothing where it is no JSON."""
    try:
        tree = [json.loads(data)]
    except (ValueError, RecursionError):
        return b""
    for _ in range(random.randint(1, 3)):
        _change(tree, random)
    changed = json.dumps(tree[0]).encode("utf-8", "surrogatepass")
    return changed.replace(b'": ', b'": 1, "a": ', 1) if random.random() < 0.1 else changed


def _bytes_changed(data: bytes, random: Random) -> bytes:
    """Cut, replace or insert bytes."""
    if not data:
        return random.randbytes(20)
    at = random.randrange(len(data))
    return random.choice(
        [
            data[:at],
            data[:at] + random.randbytes(random.randint(1, 8)) + data[at + 1 :],
            data[:at] + data[random.randrange(len(data)) :],
            data[:at] + b"\xff" * 9 + data[at:],
            data[:at] + random.choice([b"9" * 400, b"nan", b"-1", b"\n", b"[" * 4000]) + data[at:],
        ]
    )


def _change(tree: Any, random: Random) -> None:
    """Replace, remove or add one value of a nested list."""
    holder, key = tree, 0
    while True:
        inner = holder[key]
        keys = [*inner] if isinstance(inner, dict) else []
        keys = [*range(len(inner))] if isinstance(inner, list) else keys
        if not keys or random.random() < 0.2:
            break
        holder, key = inner, random.choice(keys)
    if holder is not tree and random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = deepcopy(random.choice(ODD))


def _deep(path: Path) -> None:
    path.write_text("[" * 100_000, encoding="utf-8")


def _tensors(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}")


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "empty.onnx": lambda p: p.write_bytes(b""),
    "noise.onnx": lambda p: p.write_bytes(Random(0).randbytes(9000)),  # noqa: S311
    "noise.png": lambda p: p.write_bytes(Random(1).randbytes(9000)),  # noqa: S311
    "noise.safetensors": lambda p: p.write_bytes(Random(2).randbytes(9000)),  # noqa: S311
    "long.safetensors": _tensors,
    "noise.tar": lambda p: p.write_bytes(Random(3).randbytes(9000)),  # noqa: S311
    "deep.json": _deep,
    "deep.toml": lambda p: p.write_text("a = " + "[" * 100_000, encoding="utf-8"),
    "list.json": lambda p: p.write_text("[1, 2]", encoding="utf-8"),
    "nan.json": lambda p: p.write_text('{"a": NaN, "b": Infinity}', encoding="utf-8"),
    "huge.json": lambda p: p.write_text('{"a": 1' + "0" * 400 + "}", encoding="utf-8"),
    "twice.json": lambda p: p.write_text('{"a": 1, "a": 2}', encoding="utf-8"),
    "utf-16.json": lambda p: p.write_text('{"a": 1}', encoding="utf-16"),
    "line\nbreak \x1b[31mred.json": lambda p: p.write_text("{", encoding="utf-8"),
    "loop": lambda p: p.symlink_to(p),
    "loop.onnx": lambda p: p.symlink_to(p),
    "to-nothing": lambda p: p.symlink_to("nothing"),
    "pipe": os.mkfifo,
    "pipe.onnx": os.mkfifo,
    "pipe.safetensors": os.mkfifo,
    "pipe.tar": os.mkfifo,
    "pipe.png": os.mkfifo,
    "zero": lambda p: p.symlink_to("/dev/zero"),
    "zero.onnx": lambda p: p.symlink_to("/dev/zero"),
    "zero.safetensors": lambda p: p.symlink_to("/dev/zero"),
    "zero.tar": lambda p: p.symlink_to("/dev/zero"),
    "zero.mp4": lambda p: p.symlink_to("/dev/zero"),
    "null.json": lambda p: p.symlink_to("/dev/null"),
    "folder.onnx": lambda p: p.mkdir(),
    "locked.json": lambda p: p.touch(0),
    "odd": lambda p: p.mkdir(),
}
"""Files that are wrong whatever they are for, and how they are made."""
