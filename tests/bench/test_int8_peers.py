"""The script that compares INT8 with peers': its own parts, and each peer where it is installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest

from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
SPEC = ModelSpec((32, 64), ("Car", "Pedestrian", "Cyclist"), resize="stretch")
MACS = 16 * 3 * 32 * 64 + 2 * 16 * 16 * 32 * 64 + 16 * 4
"""Of the stem, two convolutions and the head of `network`."""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, imported as it runs: with its folder in the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = set(sys.modules)
    yield importlib.import_module("int8_peers")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(SCRIPTS)):
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def network(onnx_model: Callable[..., onnx.ModelProto], tmp_path: Path) -> Path:
    """Three convolutions and a head: a small detector that anyone can quantize."""
    rng = np.random.default_rng(0)
    model = onnx_model(
        [
            ("Conv", "/backbone/stem/Conv", ["images", "w_stem"], "a", {}),
            ("Conv", "/backbone/one/Conv", ["a", "w_one"], "b", {}),
            ("Relu", "relu", ["b"], "r", {}),
            ("Conv", "/backbone/two/Conv", ["r", "w_two"], "c", {}),
            ("ReduceMean", "mean", ["c"], "d", {"axes": [2], "keepdims": 0}),
            ("Transpose", "turn", ["d"], "e", {"perm": [0, 2, 1]}),
            ("ReduceMean", "mean_1", ["e"], "g", {"axes": [1]}),
            ("MatMul", "/bbox_embed/MatMul", ["g", "w_box"], "h", {}),
            ("Sigmoid", "box", ["h"], "boxes", {}),
            ("Identity", "/class_embed/Identity", ["fixed"], "logits", {}),
        ],
        {
            "w_stem": rng.normal(size=(16, 3, 1, 1)),
            "w_one": rng.normal(size=(16, 16, 1, 1)) / 4,
            "w_two": rng.normal(size=(16, 16, 1, 1)) / 4,
            "w_box": rng.normal(size=(16, 4)),
            "fixed": np.array([[[4.0, -20.0, -20.0]]]),
        },
        inputs={"images": (1, 3, 32, 64)},
        outputs=["logits", "boxes"],
        spec=SPEC,
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (32, 64, 3), np.uint8))
    return paths


def test_images_are_fed_once_as_the_network_reads_them(
    peers: ModuleType, images: list[Path]
) -> None:
    feeds = peers.Feeds(SPEC, images)
    first = feeds.get_next()
    assert first is not None
    assert first["images"].shape == (1, 3, 32, 64)
    assert first["images"].max() <= 1
    assert feeds.get_next() is not None
    assert feeds.get_next() is None
    assert len(list(iter(feeds))) == 2  # and again for those who go through it


def test_our_graphs_are_of_every_target_and_a_peer_that_fails_gives_its_reason(
    peers: ModuleType,
    network: Path,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attempt(quantizer: Any, *arguments: Any) -> str:
        if quantizer == "broken":
            return "ModuleNotFoundError: No module named 'broken'"
        arguments[-1].write_bytes(network.read_bytes())
        return ""

    monkeypatch.setattr(peers, "QUANTIZERS", {"broken": "broken", "tool default": "tool"})
    monkeypatch.setattr(peers, "attempt", attempt)
    made, missing = peers.graphs(network, SPEC, images, tmp_path)
    assert list(made) == ["ours, tensorrt", "ours, openvino", "ours, onnxruntime", "tool default"]
    assert missing == {"broken": "ModuleNotFoundError: No module named 'broken'"}
    inside = 2 * 16 * 16 * 32 * 64
    assert peers.share(onnx.load(made["ours, openvino"])) == round(inside / MACS, 4)
    assert peers.share(onnx.load(made["tool default"])) == 0


@pytest.mark.parametrize("module", ["onnxruntime", "nncf", "modelopt"])
def test_a_peer_quantizes_the_same_network(
    peers: ModuleType, network: Path, images: list[Path], tmp_path: Path, module: str
) -> None:
    pytest.importorskip(module)
    output, quantizer = tmp_path / "peer.onnx", getattr(peers, f"with_{module}")
    if module == "modelopt":  # which changes ONNX Runtime's tool in its process
        assert not peers.attempt(quantizer, network, SPEC, images, output)
    else:
        quantizer(network, peers.Feeds(SPEC, images), output)
    assert peers.share(onnx.load(output)) > 0.5


def test_a_peer_that_fails_in_its_process_is_told_in_a_line(
    peers: ModuleType, images: list[Path], tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing.onnx"
    reason = peers.attempt(peers.with_onnxruntime, nothing, SPEC, images, tmp_path / "x.onnx")
    assert "nothing.onnx" in reason
    assert "\n" not in reason
    assert len(reason) <= 300


class Backend:
    """A library that takes a known time; the clock is the test's."""

    def __init__(self) -> None:
        self.now_ns, self.closed = 0, 0

    def open_session(self, file: Path, _spec: ModelSpec, threads: int) -> Backend._Session:
        assert threads == 2
        if file.stem == "bad":
            raise ArtifactError("bad.onnx:\nno such operator")
        return self._Session(self, int(file.stem))

    class _Session:
        def __init__(self, backend: Backend, ms: int) -> None:
            self.backend, self.ms = backend, ms

        def infer(self) -> None:
            self.backend.now_ns += self.ms * 1_000_000

        def close(self) -> None:
            self.backend.closed += 1


def test_times_are_taken_in_turns_and_a_refusal_is_a_result(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    monkeypatch.setattr(peers, "perf_counter_ns", lambda: backend.now_ns)
    files = {"fp32": Path("20.onnx"), "ours": Path("9.onnx"), "nncf": Path("bad.onnx")}
    assert peers.in_turns(backend, files, SPEC) == {
        "fp32": {"ms": 20.0, "over_fp32": 1.0},
        "ours": {"ms": 9.0, "over_fp32": 0.45},
        "refused": {"nncf": "bad.onnx: no such operator"},
    }
    assert backend.closed == 2
