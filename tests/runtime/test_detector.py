from __future__ import annotations

import json
import threading
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedetr.runtime import Detections, Detector, Frame, ModelSpec
from edgedetr.runtime.errors import ArtifactError, UnknownNameError
from edgedetr.runtime.images import list_images, read_image
from edgedetr.runtime.manifest import manifest_path, write_manifest
from edgedetr.runtime.timing import StageTimes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tiny = Callable[..., Path]

WHITE = Frame(np.full((20, 40, 3), 255, np.uint8))
BLACK = Frame(np.zeros((20, 40, 3), np.uint8))


def test_a_white_frame_holds_one_car(tiny_onnx: Tiny) -> None:
    with Detector.open(tiny_onnx()) as detector:
        found = detector.detect(WHITE)
        assert len(detector.detect(BLACK)) == 0
    np.testing.assert_allclose(found.boxes, [[10, 5, 30, 15]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-4))], rtol=1e-5)
    assert found.labels.tolist() == [0]


def test_results_survive_the_next_frame(tiny_onnx: Tiny) -> None:
    detector = Detector.open(tiny_onnx(), threshold=0.0)
    found = detector.detect(WHITE)
    before = [a.copy() for a in (found.boxes, found.scores, found.labels)]
    detector.detect(BLACK)
    for then, now in zip(before, (found.boxes, found.scores, found.labels), strict=True):
        np.testing.assert_array_equal(then, now)


def test_the_threshold_is_obeyed_and_checked(tiny_onnx: Tiny) -> None:
    assert len(Detector.open(tiny_onnx(), threshold=0.99).detect(WHITE)) == 0
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\], got 1.5"):
        Detector.open(tiny_onnx(), threshold=1.5)


def test_a_given_spec_serves_a_foreign_model(tiny_onnx: Tiny) -> None:
    spec = ModelSpec((8, 16), ("bus", "tram"))
    assert Detector.open(tiny_onnx(store_spec=False), spec=spec).spec.class_names == ("bus", "tram")


def test_a_manifest_beside_the_file_must_match(tiny_onnx: Tiny) -> None:
    path = tiny_onnx()
    write_manifest(path, kind="onnx", command="", spec=ModelSpec((8, 16), ("Car", "Pedestrian")))
    Detector.open(path).close()
    values = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(values | {"sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match=r"tiny.onnx does not match its manifest"):
        Detector.open(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x.safetensors: onnxruntime runs .onnx files"):
        Detector.open(tmp_path / "x.safetensors")


def test_an_unknown_backend_is_refused(tiny_onnx: Tiny) -> None:
    with pytest.raises(UnknownNameError, match="no 'tensorflow' in backends"):
        Detector.open(tiny_onnx(), backend="tensorflow")


def test_close_twice_is_safe_and_ends_it(tiny_onnx: Tiny) -> None:
    detector = Detector.open(tiny_onnx())
    detector.close()
    detector.close()
    with pytest.raises(ValueError, match="the session is closed"):
        detector.detect(WHITE)


def test_times_count_frames_without_the_warm_up(tiny_onnx: Tiny) -> None:
    detector = Detector.open(tiny_onnx())
    assert detector.times == StageTimes()
    detector.detect(WHITE)
    first = detector.times
    assert first.frames == 1
    assert min(first.preprocess_ns, first.infer_ns, first.postprocess_ns) > 0
    detector.detect(WHITE)
    assert detector.times.frames == 2
    assert detector.times.infer_ns > first.infer_ns


def test_threads_do_not_mix_their_frames(tiny_onnx: Tiny) -> None:
    detector = Detector.open(tiny_onnx())
    wrong: list[Detections] = []

    def work(frame: Frame, wanted: int) -> None:
        for _ in range(200):
            found = detector.detect(frame)
            if len(found) != wanted:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=a) for a in ((WHITE, 1), (BLACK, 0)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert detector.times.frames == 800


def test_no_allocation_of_the_size_of_an_image_in_a_frame(tiny_onnx: Tiny) -> None:
    detector = Detector.open(tiny_onnx(spec=ModelSpec((384, 1248), ("Car", "Pedestrian"))))
    frame = Frame(np.full((375, 1242, 3), 200, np.uint8))
    detector.detect(frame)
    tracemalloc.start()
    try:
        detector.detect(frame)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20_000


def test_a_trained_model_finds_the_qr_code_of_real_photos(shared_data: Path) -> None:
    folder = shared_data / "deimv2_femto_qr"
    spec = ModelSpec((416, 416), ("QR code",), logits_name="2166", boxes_name="2167")
    with Detector.open(folder / "deimv2_femto_416.onnx", threshold=0.5, spec=spec) as detector:
        for path in list_images(folder / "images")[:2]:
            image = read_image(path)
            found = detector.detect(Frame(image))
            x0, y0, x1, y1 = found.boxes[0].astype(int)
            inside = image[y0:y1, x0:x1]
            assert len(found) == 1
            # black and white squares on a dark photo: brighter and of more contrast than the rest
            assert inside.mean() > 2 * image.mean()
            assert inside.std() > 1.5 * image.std()
