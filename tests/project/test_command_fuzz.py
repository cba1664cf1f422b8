"""Any command line ends with a status, in bounds, and changes nothing that it only reads."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from random import Random
from types import ModuleType

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgedetr.bench import automotive
from edgedetr.runtime import cli
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec

fuzz = ModuleType("command_fuzz")
SourceFileLoader("command_fuzz", str(Path(__file__).with_name("command_fuzz.py"))).exec_module(fuzz)

EXAMPLES = int(os.environ.get("EDGEDETR_FUZZ_EXAMPLES", "25"))
LIMIT_S = 120
"""None of these commands has more to do than some seconds; this is for one that never ends."""
FILE_BYTES = 256 << 20
MEMORY_BYTES = 3 << 30
LONGEST_LINE = 5000
SPEC = ModelSpec((64, 96), ("Car", "Pedestrian"))
LABEL = "Car 0.00 0 0 20 10.0 44 40.0 1 1 1 1 1 1 0\n"


class NeverEnds(BaseException):
    """A command did not end in time; nothing that it catches."""


def end(*_):
    raise NeverEnds


@contextmanager
def limits():
    """Bound time and memory, and put signals back as they were."""
    before = {n: signal.getsignal(n) for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    allowed = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, allowed[1]))
    alarm = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT_S)
    faulthandler.dump_traceback_later(2 * LIMIT_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)
        resource.setrlimit(resource.RLIMIT_AS, allowed)
        for number, handler in before.items():
            signal.signal(number, handler)


def run(*line):
    """Return exit status, standard output and standard error."""
    argv, sys.argv = sys.argv, ["edgedetr", *map(str, line)]
    try:
        whole = CliRunner().isolation(
            env={"NO_COLOR": "1"}, color=True
        )  # names alone bring escapes
        with whole as (out, err, _), pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, out.getvalue(), err.getvalue()
    finally:
        sys.argv = argv


def made(*line):
    status, out, err = run(*line)
    assert status == 0, (line, out, err)


def listing(scene):
    """Return what would show that something in a folder was changed."""
    found = {}
    for path in sorted(scene.rglob("*")):
        if "made" not in path.relative_to(scene).parts[:1]:
            info = path.lstat()
            files = () if path.is_dir() else (info.st_size, info.st_mtime_ns)
            found[path] = (info.st_ino, info.st_mode, *files)
    return found


@pytest.fixture(autouse=True)
def small_files():
    """No file may grow beyond `FILE_BYTES`: a copy of a device would fill the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def scene(tmp_path, tiny_onnx, onnx_model, monkeypatch):
    """Good files of every kind and `ODD_FILES`, in the working folder."""
    for name in ("edgedetr.distill.recipe", "edgedetr.export.to_onnx"):
        import_module(name)  # libraries are mapped before memory is bounded
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("EDGEDETR_KEY_PASSPHRASE", "secret")
    monkeypatch.setattr(cli, "is_any_left_alone", lambda: False)  # or it would end the tests
    monkeypatch.chdir(tmp_path)
    Path("home").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    Path("tmp").mkdir()
    tiny_onnx()
    pictures()
    labelled()
    tensors()
    models(onnx_model)
    for name, make in fuzz.ODD_FILES.items():
        make(Path(name))
    shutil.copy("pictures/0.png", "odd/0.png")
    os.mkfifo("odd/1.png")
    Path("odd/2.png").symlink_to("/dev/zero")
    Path("odd/\x1b[31m.png").write_bytes(b"")
    return tmp_path


def pictures():
    Path("pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in ("0.png", "1.jpg"):
        cv2.imwrite(f"pictures/{name}", rng.integers(0, 256, (40, 60, 3), np.uint8))


def labelled():
    """Two frames in KITTI's format and in COCO's."""
    for name in ("training/image_2", "training/label_2", "ImageSets"):
        Path("kitti", name).mkdir(parents=True)
    for index in range(2):
        shutil.copy("pictures/0.png", f"kitti/training/image_2/{index:06d}.png")
        Path(f"kitti/training/label_2/{index:06d}.txt").write_text(LABEL, encoding="utf-8")
    for name, frame in (("train", "000000\n"), ("val", "000001\n")):
        Path(f"kitti/ImageSets/{name}.txt").write_text(frame, encoding="utf-8")
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "file_name": "0.png", "height": 40, "width": 60}],
        "annotations": [{"id": 1, **box}],
        "categories": [{"id": 1, "name": "Car"}],
    }
    Path("coco/train").mkdir(parents=True)
    Path("coco/val").mkdir()
    for split in ("train", "val"):
        shutil.copy("pictures/0.png", f"coco/{split}/0.png")
        Path(f"coco/{split}.json").write_text(json.dumps(truth), encoding="utf-8")
    Path("results.json").write_text(json.dumps([{**box, "score": 0.5}]), encoding="utf-8")
    Path("config.toml").write_text(
        'epochs = 1\nteacher = ""\nmethods = ["none"]\n[data]\nroot = "no/data"\n'
        '[student]\npreset = "edge-micro"\ninput_hw = [64, 96]\n',
        encoding="utf-8",
    )
    Path("spec.toml").write_text(
        'input_hw = [8, 16]\nclass_names = ["Car", "Pedestrian"]\n', encoding="utf-8"
    )
    Path("license.txt").write_text("Do what you like.\n", encoding="utf-8")
    Path("foreign.engine").write_bytes(b"ftrt" + bytes(100))
    Path("timing.cache").write_bytes(b"tensorrt\n" + bytes(10))


def tensors():
    """A checkpoint without weights, and a file that is none."""
    from safetensors.numpy import save_file

    weight = {"weight": np.zeros(2, np.float32)}
    kind = json.dumps({"family": "d_fine", "preset": "edge-micro"})
    save_file(weight, "foreign.safetensors")
    metadata = {METADATA_KEY: SPEC.to_json(), "edgedetr.model": kind}
    save_file(weight, "hollow.safetensors", metadata)


def models(onnx_model):
    """A small network in FP32 and INT8, with all that the commands make of it."""
    import onnx

    rng = np.random.default_rng(0)
    nodes = [
        ("Conv", "stem", ["images", "first"], "features", {"strides": [4, 4]}),
        ("Relu", "relu", ["features"], "activated", {}),
        ("Conv", "conv", ["activated", "second"], "result", {}),
    ]
    net = onnx_model(
        nodes,
        {"first": rng.normal(size=(4, 3, 3, 3)), "second": rng.normal(size=(4, 4, 3, 3))},
        inputs={"images": (1, 3, *SPEC.input_hw)},
        outputs=["result"],
        spec=SPEC,
        classes=2,
    )
    onnx.save(net, "conv.onnx")
    made("calib", "collect", "conv.onnx", "--images", "pictures", "-o", "stats.json")
    made("export", "qdq", "conv.onnx", "stats.json", "--for", "openvino", "-o", "quantized.onnx")
    made("export", "clipping", "quantized.onnx", "-o", "clipping.onnx")
    made("calib", "digest", "tiny.onnx", "--images", "pictures", "-o", "digest.json")
    compared = ("verify", "conv.onnx", "quantized.onnx", "--images", "pictures")
    run(*compared, "--threshold", 0, "--json", "verify.json")
    made("package", "keygen", "key")
    packed = ("package", "create", "tiny.onnx", "--reference", "tiny.onnx", "--key", "key")
    for name in ("package", "package.tar"):
        made(*packed, "-o", name)
    Path("report.json").write_text('{"models": [], "parity": []}', encoding="utf-8")
    Path("run").mkdir()
    for name in ("conv.onnx", "verify.json"):
        shutil.copy(name, f"run/{name.replace('conv', 'student').replace('y.', 'y.onnx.')}")
    Path("run/log.jsonl").write_text('{"step": 1, "loss": 1.0}\n', encoding="utf-8")


def problem(scene, line):
    """Run a command line; return what is wrong with how it ended, or nothing."""
    before = listing(scene)
    devices = [Path("/dev/null").stat().st_rdev, Path("/dev/zero").stat().st_rdev]
    try:
        with limits():
            status, out, err = run(*line)
    except BaseException as error:
        tidy([path for path in listing(scene) if path not in before])
        where = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "edgedetr" in f.filename]
        return f"{type(error).__name__} {str(error)[:300]!r} at {own[-1:]}"
    after = listing(scene)
    changed = [path for path, state in before.items() if after.get(path) != state]
    new = [path for path in after if path not in before]
    left = [path for path in new if path.name.endswith(".tmp") or path.parent.name == "tmp"]
    found = [f"it changed {path}" for path in changed] + [f"it left {path}" for path in left]
    if devices != [Path("/dev/null").stat().st_rdev, Path("/dev/zero").stat().st_rdev]:
        found.append("it replaced a device")
    if status not in {0, 1, 2}:
        found.append(f"status {status}")
    found += [f"wrote {text!r}" for text in raw(err) + (raw(out) if "-" not in line else [])]
    tidy(new)
    return "; ".join(found)


def raw(written):
    """Return the lines that are too long, or would command a terminal."""
    lines = written.decode("utf-8").split("\n")
    plain = [line.replace("\t", " ") for line in lines]
    return [text[:300] for text in plain if len(text) > LONGEST_LINE or not text.isprintable()]


def tidy(new):
    for path in reversed(new):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@pytest.mark.slow
def test_any_command_line_ends_in_order(scene, monkeypatch):
    """`EDGEDETR_FUZZ_EXAMPLES` says how many of each command."""
    for plan in ("FULL", "SHORT"):  # which take hours and minutes
        monkeypatch.setattr(automotive, plan, automotive.Plan(2, 2, (15.0,)))
    wrong: dict[str, list[str]] = {}
    for names in fuzz.commands():
        run_some(names, scene, wrong)
    assert not wrong, "\n".join(f"{what}\n    {line}" for what, line in wrong.items())


def run_some(names, scene, wrong):
    """Run command lines of one command; note one for each thing that is wrong."""

    @settings(
        deadline=None,
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**62))
    def run_one(seed):
        line = fuzz.arguments(names, scene, Random(f"{names} {seed}"))  # noqa: S311 - no secret
        found = problem(scene, line)
        if found:
            wrong.setdefault(f"{' '.join(names)}: {found}", line)
        shutil.rmtree(scene / "made", ignore_errors=True)

    run_one()
