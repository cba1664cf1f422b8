from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from edgedetr.runtime import Detector
from edgedetr.runtime.backends.onnxruntime import CPU, open_session
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

    Tiny = Callable[..., Path]
    Build = Callable[..., onnx.ModelProto]

NAMES = ("Car", "Pedestrian")


REPORTS = """
import os, sys, time
{first}
from edgedetr.runtime import Detector
with Detector.open(sys.argv[1], "onnxruntime"):
    time.sleep(1)
    print(*(os.path.realpath("/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd")))
"""
SILENT = ("CI", "GITHUB_ACTIONS", "JENKINS_URL", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY")
"""Where one of these is set ONNX Runtime keeps to itself anyway."""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import edgedetr.graph.exact"])
def test_it_reports_to_nobody(first: str, tiny_onnx: Tiny, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in SILENT}
    environment = kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", REPORTS.format(first=first), tiny_onnx()],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not re.findall(r"socket:|onnxruntime\.db", done.stdout)
    assert not [*home.rglob("*")]


def test_the_answer_by_hand(tiny_onnx: Tiny) -> None:
    session = open_session(tiny_onnx())
    session.images[...] = 0.75
    logits, boxes = session.infer()
    np.testing.assert_allclose(logits, [[[2, -9], [-9, -9]]], rtol=1e-6)
    np.testing.assert_allclose(boxes, [[[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]]])


def test_buffers_are_used_again(tiny_onnx: Tiny) -> None:
    session = open_session(tiny_onnx())
    first, _ = session.infer()
    session.images[...] = 1
    second, _ = session.infer()
    assert first is second
    assert second[0, 0, 0] == 4


def test_a_frame_allocates_nothing(tiny_onnx: Tiny) -> None:
    session = open_session(tiny_onnx(spec=ModelSpec((100, 100), NAMES)))
    session.infer()
    tracemalloc.start()
    try:
        session.infer()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2_000


def test_the_spec_comes_from_the_file_or_the_caller(tiny_onnx: Tiny) -> None:
    stored = ModelSpec((8, 16), NAMES, pad_value=3)
    path = tiny_onnx(spec=stored)
    assert open_session(path).spec == stored
    given = ModelSpec((8, 16), ("a", "b"))
    assert open_session(path, given).spec == given


def test_a_missing_spec_is_named(tiny_onnx: Tiny) -> None:
    with pytest.raises(ArtifactError, match=r"tiny.onnx holds no model spec \(edgedetr.spec"):
        open_session(tiny_onnx(store_spec=False))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no.onnx is missing; export the model first"):
        open_session(tmp_path / "no.onnx")


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_named(
    tiny_onnx: Tiny, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_onnx()
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(ArtifactError, match=r"tiny.onnx: ONNX Runtime cannot load it"):
        open_session(path)
    assert capfd.readouterr() == ("", "")


def test_an_input_of_another_size_is_refused(tiny_onnx: Tiny) -> None:
    wanted = r"takes images float32 \[1, 3, 8, 16\], its spec says images .*\[1, 3, 9, 16\]"
    with pytest.raises(ArtifactError, match=wanted):
        open_session(tiny_onnx(), ModelSpec((9, 16), NAMES))


def test_an_input_of_another_name_is_refused(tiny_onnx: Tiny) -> None:
    with pytest.raises(ArtifactError, match=r"takes images .* its spec says pixels"):
        open_session(tiny_onnx(), ModelSpec((8, 16), NAMES, input_name="pixels"))


def test_a_batch_that_is_left_open_is_refused(tiny_onnx: Tiny) -> None:
    with pytest.raises(ArtifactError, match="export it with a static batch"):
        open_session(tiny_onnx(batch="N"))


def test_each_row_of_a_batch_has_its_own_answer(tiny_onnx: Tiny) -> None:
    session = open_session(tiny_onnx(batch=2))
    assert session.images.shape == (2, 3, 8, 16)
    session.images[0], session.images[1] = 0, 1
    logits, boxes = session.infer()
    assert boxes.shape == (2, 2, 4)
    assert logits[:, 0, 0].tolist() == [-4, 4]  # a gain of 8 from a bias of -4


def test_a_missing_output_is_named(tiny_onnx: Tiny) -> None:
    with pytest.raises(ArtifactError, match="outputs logits, boxes, its spec wants scores"):
        open_session(tiny_onnx(), ModelSpec((8, 16), NAMES, logits_name="scores"))


def test_logits_of_another_number_of_classes_are_refused(tiny_onnx: Tiny) -> None:
    wanted = r"outputs float32 \(1, 2, 2\) .* wants float32 logits \(1, 2, 3\)"
    with pytest.raises(ArtifactError, match=wanted):
        open_session(tiny_onnx(), ModelSpec((8, 16), (*NAMES, "Cyclist")))


def test_swapped_outputs_are_refused(tiny_onnx: Tiny) -> None:
    swapped = ModelSpec((8, 16), NAMES, logits_name="boxes", boxes_name="logits")
    with pytest.raises(ArtifactError, match="wants float32 logits"):
        open_session(tiny_onnx(), swapped)


def test_a_file_that_cannot_run_is_named(
    tiny_onnx: Tiny, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_onnx(bias=[[0.0, 0.0]] * 3, boxes=[[0.5] * 4] * 2)  # three logits, two boxes
    with pytest.raises(ArtifactError, match=r"outputs float32 \(1, 3, 2\)"):
        open_session(path)
    assert capfd.readouterr() == ("", "")


def test_close_twice_is_safe_and_ends_it(tiny_onnx: Tiny) -> None:
    session = open_session(tiny_onnx())
    session.close()
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.infer()


@pytest.mark.parametrize("exact", [False, True])
def test_sums_of_int8_do_not_saturate(onnx_model: Build, tmp_path: Path, exact: bool) -> None:
    """The usual INT8 kernel of a CPU without VNNI would."""
    model = onnx_model(
        [
            ("ReduceMean", "grey", ["images"], "one", {"axes": [1], "keepdims": 1}),
            ("Reshape", "flatten", ["one", "flat"], "row", {}),
            ("QuantizeLinear", "q", ["row", "in_scale", "in_zero"], "row_q", {}),
            ("DequantizeLinear", "dq", ["row_q", "in_scale", "in_zero"], "row_dq", {}),
            ("DequantizeLinear", "w_dq", ["w_q", "w_scale", "w_zero"], "w", {}),
            ("MatMul", "head", ["row_dq", "w"], "logits", {}),
            ("MatMul", "box_head", ["row_dq", "box_w"], "boxes", {}),
        ],
        {
            "flat": [1, 1, 64],
            "in_scale": 1 / 255,
            "in_zero": np.uint8(0),
            "w_q": np.full((64, 1), 127, np.int8),
            "w_scale": 1 / 127,
            "w_zero": np.int8(0),
            "box_w": np.full((64, 4), 1 / 128),
        },
        inputs={"images": (1, 3, 8, 8)},
        outputs=("logits", "boxes"),
        spec=ModelSpec((8, 8), ("Car",)),
    )
    path = tmp_path / "qdq.onnx"
    path.write_bytes(model.SerializeToString())
    session = open_session(path, threads=1, exact=exact)
    session.images[...] = 1
    logits, _ = session.infer()
    np.testing.assert_allclose(logits, 64, rtol=1e-6)


def test_pairs_of_fp16_without_an_int8_kernel_are_computed_as_written(
    onnx_model: Build, tmp_path: Path
) -> None:
    """ONNX Runtime 1.31 makes a QLinearConcat of these, which takes no FP16, and refuses that."""
    pair = ["scale", "zero"]
    model = onnx_model(
        [
            ("Cast", "narrow", ["images"], "x", {"to": 10}),
            ("QuantizeLinear", "q", ["x", *pair], "x_q", {}),
            ("DequantizeLinear", "dq", ["x_q", *pair], "x_dq", {}),
            ("MaxPool", "pool", ["x"], "y", {"kernel_shape": [1, 1]}),
            ("QuantizeLinear", "q1", ["y", *pair], "y_q", {}),
            ("DequantizeLinear", "dq1", ["y_q", *pair], "y_dq", {}),
            ("Concat", "join", ["x_dq", "y_dq"], "both", {"axis": 3}),
            ("QuantizeLinear", "q2", ["both", *pair], "both_q", {}),
            ("DequantizeLinear", "dq2", ["both_q", *pair], "both_dq", {}),
            ("Cast", "widen", ["both_dq"], "wide", {"to": 1}),
            ("Reshape", "rows", ["wide", "shape"], "boxes", {}),
            ("Slice", "first", ["boxes", "from", "to", "axis"], "logits", {}),
        ],
        {
            "scale": np.float16(0.25),
            "zero": np.int8(0),
            "shape": [1, 6, 4],
            "from": [0],
            "to": [1],
            "axis": [2],
        },
        inputs={"images": (1, 3, 2, 2)},
        outputs=("logits", "boxes"),
        spec=ModelSpec((2, 2), ("Car",), activation="sigmoid"),
        opset=19,
    )
    path = tmp_path / "pairs.onnx"
    path.write_bytes(model.SerializeToString())
    session = open_session(path, threads=1)
    session.images[...] = 0.4  # 0.4 / 0.25 rounds to 2
    np.testing.assert_array_equal(session.infer()[1], np.full((1, 6, 4), 0.5))


@pytest.mark.parametrize("steady", [False, True])
def test_waiting_threads_of_a_steady_session_do_not_spin(
    tiny_onnx: Tiny, monkeypatch: pytest.MonkeyPatch, steady: bool
) -> None:
    entries: dict[str, str] = {}

    class Options(ort.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(ort, "SessionOptions", Options)
    Detector.open(tiny_onnx(), steady=steady).close()
    spinning = {k: v for k, v in entries.items() if "spinning" in k}
    assert spinning == ({"session.intra_op.allow_spinning": "0"} if steady else {})


def test_the_cpu_is_asked_for_the_cpu_alone(tiny_onnx: Tiny, gpu_providers: Any) -> None:
    assert open_session(tiny_onnx()).runs_on.endswith(CPU)
    assert gpu_providers.asked == [[CPU]]
