"""Let tiny models detect for a long time while things fail at random.

    python benchmarks/soak.py --frames 100000

Exit status 1 where a result is wrong, a frame is lost that was not damaged, or memory or open files
grow. Frames go through everything that ``edgedetr run`` has but the waiting: reading, detection,
tracking, result files, health and metrics. Every 500 the model's file is replaced by the other of
two models, or by what is none, and SIGHUP swaps it in. Some frames are damaged pictures, some are
submitted with a callback that fails, and a process keeps connecting to the metrics.

A result is wrong where it is not, to the bit, what the model in place finds in that picture by
itself; from the signal until the message that a swap is done it may be the new model's, too.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedetr.bench.result_file import result_option, write_result
from edgedetr.runtime.clock import MonotonicClock
from edgedetr.runtime.commands.signals import handled
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.health.page_server import MOST_CLIENTS
from edgedetr.runtime.health.watch import HealthOptions, watched
from edgedetr.runtime.images import read_image
from edgedetr.runtime.inference.swapping import Swapper, SwapRequests
from edgedetr.runtime.machine import package_versions
from edgedetr.runtime.sources.capture import Capture
from edgedetr.runtime.spec import METADATA_KEY, ModelSpec
from edgedetr.runtime.stream.result_files import ResultFiles
from edgedetr.runtime.stream.run import run as run_stream
from edgedetr.runtime.stream.stream import Stream
from edgedetr.runtime.stream.tracking import Tracker
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from edgedetr.runtime.clock import StopFlag
    from edgedetr.runtime.stream.stream import StreamResult
    from edgedetr.runtime.types import Detections

SPEC = ModelSpec((32, 96), ("Car", "Pedestrian"))
LIMIT_MB = 5.0
ARENAS = 2
"""Of glibc's allocator, as runtime/edgedetr.service has it: each of many keeps what it once had."""
_ARENA_MAX = -8
SWAP_EVERY, SUBMIT_EVERY = 500, 10
MOST_SOCKETS = MOST_CLIENTS + 4  # of the metrics' clients, and what the server itself needs
_PERIOD_NS = 33_000_000
_SAMPLES = 5
"""Of a hundred that memory is a median of: while a model is swapped in there are two of them."""
_SWAP_LIMIT_S, _SWAPPED = 60.0, "swapped"
_SHARE_DAMAGED, _SHARE_NO_MODEL = 0.02, 0.25
_GREYS = (60, 110, 170, 230)

CLIENTS = """
import random, socket, sys, time
port, chance, held = int(sys.argv[1]), random.Random(0), []
while True:
    try:
        client = socket.create_connection(("127.0.0.1", port), 5)
        kind = chance.randrange(4)
        if kind == 0:
            client.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            client.recv(1 << 16)
        elif kind == 1:
            client.sendall(chance.randbytes(chance.randrange(20000)))
        elif kind == 2:
            held.append(client)
            del held[:-40]
            continue
        client.close()
    except OSError:
        pass
    time.sleep(0.02)
"""
"""What a process of its own does to the port of the metrics until it is ended."""

MEASURES = (
    "runtime/edgedetr/runtime/__init__.py",
    "runtime/edgedetr/runtime/health/page_server.py",
    "runtime/edgedetr/runtime/inference/freed_memory.py",
    "runtime/edgedetr/runtime/inference/loaded_model.py",
    "runtime/edgedetr/runtime/inference/pipeline.py",
    "runtime/edgedetr/runtime/inference/swapping.py",
    "runtime/edgedetr/runtime/stream/run.py",
    "runtime/edgedetr/runtime/stream/stream.py",
)
"""What makes these figures: once it changes, they are stale."""


@click.command()
@click.option("--frames", type=click.IntRange(1000), default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the faults.")
@result_option(__file__)
def main(frames: int, seed: int, out: Path) -> None:
    """Run and write the figures."""
    ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)
    for name in ("edgedetr", "concurrent.futures"):  # thousands of callbacks fail
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    try:
        figures = Soak(folder, frames, random.Random(seed)).run()  # noqa: S311 - nothing secret
    finally:
        shutil.rmtree(folder)
    record = figures | {"limit_mb": LIMIT_MB, "versions": package_versions()}
    write_result(out, record, MEASURES)
    click.echo(json.dumps(record, indent=2))
    lost = figures["frames"] + figures["unreadable"] != frames or figures["failed"]
    grown = figures["grown_mb"] > LIMIT_MB or figures["files_after"] > figures["files_before"]
    wrong = figures["wrong"] + figures["submitted_wrong"] + figures["swaps_wrong"]
    sys.exit(bool(lost or grown or wrong or figures["most_sockets"] > MOST_SOCKETS))


class Soak:
    """A stream of ``frames`` frames, and what is done to it; memory counts from a 20th on."""

    def __init__(self, folder: Path, frames: int, chance: random.Random) -> None:
        self.folder, self.frames, self.chance = folder, frames, chance
        self.pictures, self.damaged = _pictures(folder), _damaged(folder)
        self.models = [
            _write_model(folder / "one.onnx", car=8.0, pedestrian=0.0, left=0.25),
            _write_model(folder / "two.onnx", car=-2.0, pedestrian=6.0, left=0.5),
        ]
        self.broken = [b"", b"no model", self.models[0].read_bytes()[:200]]
        self.expected = [_found(model, self.pictures) for model in self.models]
        self.path = folder / "model.onnx"
        shutil.copy(self.models[0], self.path)
        self.allowed, self.before, self.wanted = {0}, {0}, 0
        self.noted, self.swaps_wrong = True, 0
        self.counts = dict.fromkeys(
            ("swaps", "refused_swaps", "submitted", "wrong", "submitted_wrong", "during_a_swap"), 0
        )
        self.memory_mb, self.files = list[float](), list[tuple[int, int]]()

    def run(self) -> dict[str, Any]:
        """Play the stream to its end and return the figures."""
        requests, port = SwapRequests(), _free_port()
        with ExitStack() as stack:
            stack.enter_context(handled("SIGHUP", once=False, action=requests.request))
            detector = stack.enter_context(Detector.open(self.path, steady=True))
            names, options = SPEC.class_names, HealthOptions(metrics_port=port)
            watch = stack.enter_context(watched(options, len(names), lambda _: None))
            stack.enter_context(_clients(port))
            swap = partial(self._swap, detector)
            stack.enter_context(Swapper(requests, swap, str(self.path), self._note))
            results = ResultFiles(self.folder / "out", None, rate_hz=30, class_names=names)
            source = Frames(self.frames, self.pictures, self.damaged, self.chance)
            how: dict[str, Any] = {"deadline_ns": _PERIOD_NS, "tracker": Tracker(_PERIOD_NS)}
            stream = Stream(detector, source, **how)

            def result(found: StreamResult) -> None:
                watch.result(found)
                self._result(found, detector)

            summary = run_stream(detector, stream, results, on_result=result)
        memory = self.memory_mb
        settled, end = median(memory[_SAMPLES : 2 * _SAMPLES]), median(memory[-_SAMPLES:])
        return {
            "frames": summary.frames,
            "unreadable": summary.unreadable,
            "failed": summary.failed,
            "frames_written": results.written,
            **self.counts,
            "swaps_wrong": self.swaps_wrong,
            "memory_settled_mb": settled,
            "memory_end_mb": end,
            "grown_mb": end - settled,
            "memory_mb": [round(m, 2) for m in memory],
            "files_before": median(files for files, _ in self.files[: len(self.files) // 2]),
            "files_after": median(files for files, _ in self.files[len(self.files) // 2 :]),
            "most_sockets": max(sockets for _, sockets in self.files),
            "latency_p50_ms": summary.latency.p50_ms if summary.latency else 0.0,
        }

    def _result(self, found: StreamResult, detector: Detector) -> None:
        """Compare a result, submit its frame now and then, and replace the model now and then."""
        index = int(found.frame.frame_id.split("-")[0])
        allowed = self.before | self.allowed  # a swap may have ended since it was detected in
        self.counts["wrong"] += not self._is_right(found.frame, found.detections, allowed)
        self.counts["during_a_swap"] += len(allowed) > 1
        if index % SUBMIT_EVERY == 0:
            self._submit(found.frame, detector)
        if index // SWAP_EVERY > self.counts["swaps"] + self.counts["refused_swaps"]:
            self._replace_model()
        if index % max(1, self.frames // 100) == 0:
            self.memory_mb.append(_resident_mb())
            self.files.append(_open_files())
        self.before = set(self.allowed)

    def _is_right(self, frame: Frame, found: Detections, allowed: set[int]) -> bool:
        picture = int(frame.frame_id.split("-")[1])
        return any(_equal(found, self.expected[model][picture]) for model in allowed)

    def _submit(self, frame: Frame, detector: Detector) -> None:
        """Submit a frame, whose callback fails, and compare the result."""
        allowed = set(self.allowed)
        kind = self.chance.choice([ValueError, SystemExit, KeyboardInterrupt])

        def fail(_: Future[Detections]) -> None:
            raise kind("no")

        future = detector.submit(frame, wait=True)
        with suppress(ValueError, SystemExit, KeyboardInterrupt):  # where it is done already
            future.add_done_callback(fail)
        found = future.result(_SWAP_LIMIT_S)
        self.counts["submitted"] += 1
        self.counts["submitted_wrong"] += not self._is_right(frame, found, allowed | self.allowed)

    def _replace_model(self) -> None:
        """Put another file in place of the model and request a swap; wait for the one before."""
        end_s = time.monotonic() + _SWAP_LIMIT_S
        while not self.noted:
            if time.monotonic() > end_s:
                raise RuntimeError(f"a swap did not end within {_SWAP_LIMIT_S:g} s")
            time.sleep(0.001)
        new = self.folder / "new.onnx"
        if self.chance.random() < _SHARE_NO_MODEL:
            self.counts["refused_swaps"] += 1
            new.write_bytes(self.chance.choice(self.broken))
        else:
            self.counts["swaps"] += 1
            self.wanted = 1 - self.wanted
            shutil.copy(self.models[self.wanted], new)
            self.allowed = {0, 1}
        self.noted = False
        new.replace(self.path)
        os.kill(os.getpid(), signal.SIGHUP)

    def _swap(self, detector: Detector) -> str:
        detector.swap(self.path, steady=True)
        return _SWAPPED

    def _note(self, text: str) -> None:
        """Take the end of a swap; the thread of the swaps calls it."""
        if "is not open after" in text:
            return
        if (text == _SWAPPED) != (len(self.allowed) > 1):
            self.swaps_wrong += 1  # a good model was refused, or a broken one taken
        self.allowed = {self.wanted}
        self.noted = True


class Frames:
    """Frames without a camera: pictures from files, some of them damaged, without any waiting."""

    def __init__(
        self, frames: int, pictures: list[Path], damaged: list[Path], chance: random.Random
    ) -> None:
        self._frames, self._next = frames, 0
        self._pictures, self._damaged, self._chance = pictures, damaged, chance
        self._clock = MonotonicClock()

    def next(self, stop: StopFlag) -> Capture | None:
        """Read a picture."""
        if self._next == self._frames or stop.is_set():
            return None
        index, self._next = self._next, self._next + 1
        picture = self._chance.randrange(len(self._pictures))
        path = self._pictures[picture]
        if self._chance.random() < _SHARE_DAMAGED:
            path = self._chance.choice(self._damaged)
        try:
            image = read_image(path)
        except DataError as error:
            return Capture(None, str(error), 0)
        return Capture(Frame(image, self._clock.now_ns(), f"{index}-{picture}"), "", 0)

    def close(self) -> None:
        """Do nothing."""


def _pictures(folder: Path) -> list[Path]:
    """Write pictures of different brightness and size, each with some noise."""
    noise = np.random.default_rng(0)
    paths = []
    for number, grey in enumerate(_GREYS):
        size = (64 + 8 * number, 192, 3)
        image = noise.integers(grey - 20, grey + 20, size).astype(np.uint8)
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths


def _damaged(folder: Path) -> list[Path]:
    """Write what cannot be read as a picture."""
    whole = (folder / "0.png").read_bytes()
    files = {"empty.png": b"", "noise.png": b"\x89PNG" * 99, "cut.png": whole[: len(whole) // 2]}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return [folder / name for name in (*files, "folder.png", "pipe.png", "missing.png")]


def _found(model: Path, pictures: list[Path]) -> list[Detections]:
    """Return what a model finds by itself."""
    with Detector.open(model) as detector:
        return [detector.detect(Frame(read_image(path))) for path in pictures]


def _equal(one: Detections, other: Detections) -> bool:
    names = ("boxes", "scores", "labels")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@contextmanager
def _clients(port: int) -> Iterator[None]:
    """Trouble the metrics' port from a process of its own while the block runs."""
    command = [sys.executable, "-I", "-c", CLIENTS, str(port)]
    process = subprocess.Popen(command)  # noqa: S603 - a fixed program
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _write_model(path: Path, *, car: float, pedestrian: float, left: float) -> Path:
    """Write a model of one query; logits grow that much with brightness, ``left`` is its place."""
    constants = {
        "gain": np.array([[[car, pedestrian]]], np.float32),
        "bias": np.array([[[-1.0, -1.0]]], np.float32),
        "zero": np.zeros((1, 1, 4), np.float32),
        "at": np.array([[[left, 0.5, 0.3, 0.5]]], np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["all"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["all"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "gain"], ["amplified"]),
        helper.make_node("Add", ["amplified", "bias"], ["logits"]),
        helper.make_node("Mul", ["mean", "zero"], ["still"]),
        helper.make_node("Add", ["still", "at"], ["boxes"]),
    ]
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    inputs = [value("images", shape=[1, 3, *SPEC.input_hw])]
    outputs = [value("logits", shape=[1, 1, 2]), value("boxes", shape=[1, 1, 4])]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _open_files() -> tuple[int, int]:
    """Count open files, and sockets apart: the connections of clients come and go."""
    links = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            links.append(str(handle.readlink()))
    sockets = sum(link.startswith("socket:") for link in links)
    return len(links) - sockets, sockets


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
