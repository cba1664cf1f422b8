"""Models on the same frames, each compared with the first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedetr.distill.dataset_conversion import convert
from edgedetr.distill.dataset_shards import write_shards
from edgedetr.export.search.trial import (
    NothingToCompareError,
    Trial,
    labelled_scenes,
    unlabelled_scenes,
)
from edgedetr.export.verify.limits import INT8_LIMITS
from edgedetr.runtime.errors import DataError
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = ModelSpec((32, 64), ("Car", "Pedestrian", "Cyclist"), resize="stretch")
T_5 = 2.0150  # Student's t at 95 %, five degrees of freedom, from a printed table


def test_frames_are_preprocessed_once_and_removed(
    grey_onnx: Path, grey_kitti: Callable[..., Path]
) -> None:
    kitti = grey_kitti()
    scenes = labelled_scenes(kitti, SPEC.class_names).spread(2)
    assert (len(scenes.images), len(scenes.truths or ())) == (2, 2)
    with Trial(onnx.load(grey_onnx), SPEC, scenes) as trial:
        for image in scenes.images:
            image.unlink()
        assert trial.effect(onnx.load(grey_onnx), "again").ap_drop == 0
    with pytest.raises(DataError):
        unlabelled_scenes(kitti / "nowhere")


@pytest.mark.parametrize("kind", ["bdd100k", "coco", "nuimages", "shards", "voc", "yolo"])
def test_labels_of_every_format_give_the_same_ap(
    kind: str, grey_onnx: Path, grey_kitti: Callable[..., Path], tmp_path: Path
) -> None:
    """Of two cars on grey 127 and 126 one is found: COCO's AP is 51 of 101."""
    kitti, root = grey_kitti(1, 2), tmp_path / kind
    dark = np.full((32, 64, 3), 126, np.uint8)
    cv2.imwrite(str(kitti / "training" / "image_2" / "000002.png"), dark)
    label = kitti / "training" / "label_2" / "000000.txt"
    car = label.read_text("utf-8")
    every = "".join(car.replace("Car", name) for name in SPEC.class_names)
    label.write_text(every, encoding="utf-8")  # or these formats would not know the classes
    if kind == "shards":
        write_shards(kitti, root, None, 1 << 20)
    else:
        convert(kitti, root, kind)
    scenes = labelled_scenes(root, SPEC.class_names)
    assert [truth.boxes.tolist() for truth in scenes.truths or ()] == [[[16, 8, 48, 24]]] * 2
    with Trial(onnx.load(grey_onnx), SPEC, scenes) as trial:
        assert trial.ap == pytest.approx(100)
        assert trial.effect(blind_in(grey_onnx, 126), "blind").ap == pytest.approx(100 * 51 / 101)


def test_all_frames_are_labelled_scenes_where_there_are_no_splits(
    grey_kitti: Callable[..., Path],
) -> None:
    root = grey_kitti(1, 2)
    for listing in (root / "ImageSets").iterdir():
        listing.unlink()
    found = labelled_scenes(root, SPEC.class_names)
    assert [image.stem for image in found.images] == ["000000", "000001", "000002"]
    assert len(found.truths or ()) == 3


def blind_in(grey_onnx: Path, grey: int) -> onnx.ModelProto:
    """Let the detector's box shrink to nothing in frames of another grey than 127.

    ``off`` is 0 in frames of grey 127, and -1 in those of ``grey``; the box is half of the image.
    """
    model = onnx.load(grey_onnx)
    graph = model.graph
    (box,) = (n for n in graph.node if n.output[0] == "boxes")
    box.output[0] = "own_boxes"
    constants = {"usual": 127 / 255, "per_level": 0.5 * 255 / (127 - grey), "most": -0.5}
    graph.initializer.extend(
        numpy_helper.from_array(np.array([[[v]]], np.float32), k) for k, v in constants.items()
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["mean"], ["grey"], axes=[1]),
            helper.make_node("Sub", ["grey", "usual"], ["off"]),
            helper.make_node("Mul", ["off", "per_level"], ["far"]),
            helper.make_node("Max", ["far", "most"], ["shift"]),
            helper.make_node("Add", ["own_boxes", "shift"], ["boxes"]),
        ]
    )
    return model


@pytest.fixture
def six_frames(grey_kitti: Callable[..., Path]) -> Path:
    """Six validation frames, of which the last is a level darker."""
    root: Path = grey_kitti(1, 6)
    dark = np.full((32, 64, 3), 126, np.uint8)
    cv2.imwrite(str(root / "training" / "image_2" / "000006.png"), dark)
    return root


def test_a_drop_of_ap_is_bounded_by_leaving_frames_out(grey_onnx: Path, six_frames: Path) -> None:
    """Worked out by hand: of six cars one is not found.

    COCO's AP is the share of the recalls 0, 0.01, ..., 1 that are reached: 84 of 101 with five of
    six cars. Without the dark frame nothing is lost; without another one four of five are found:
    81 of 101, a drop of 19.80. The jackknife's error over the drops 19.80 (five times) and 0 is
    sqrt(5 / 6 * (5 * 3.30 ** 2 + 16.50 ** 2)) = 16.50 points.
    """
    scenes = labelled_scenes(six_frames, SPEC.class_names)
    candidate = blind_in(grey_onnx, 126)
    with Trial(onnx.load(grey_onnx), SPEC, scenes) as trial:
        assert trial.ap == pytest.approx(100)
        found = trial.effect(candidate, "blind", max_ap_drop=20)
        unbounded = [trial.effect(candidate, "blind", limit) for limit in (None, 16)]
        again = trial.effect(onnx.load(grey_onnx), "itself", max_ap_drop=0.5)
    assert found.ap == pytest.approx(100 * 84 / 101)
    assert found.ap_drop == pytest.approx(100 * 17 / 101)
    error = 100 * 20 / 101 * (5 / 6 * (5 * (1 / 6) ** 2 + (5 / 6) ** 2)) ** 0.5
    assert error == pytest.approx(16.50, abs=0.01)
    assert found.ap_drop_high == pytest.approx(100 * 17 / 101 + T_5 * error, rel=1e-4)
    assert [effect.ap_drop_high for effect in unbounded] == [None, None]  # not requested, too much
    assert (again.ap_drop, again.ap_drop_high) == (0, 0)


def test_one_frame_has_no_spread(grey_onnx: Path, grey_kitti: Callable[..., Path]) -> None:
    scenes = labelled_scenes(grey_kitti(1, 1), SPEC.class_names)
    with Trial(onnx.load(grey_onnx), SPEC, scenes) as trial:
        effect = trial.effect(onnx.load(grey_onnx), "itself", max_ap_drop=0.5)
    assert (effect.ap_drop, effect.ap_drop_high) == (0, 0)


def test_the_share_of_lost_detections_needs_no_labels(grey_onnx: Path, six_frames: Path) -> None:
    scenes = unlabelled_scenes(six_frames / "training" / "image_2")
    with Trial(onnx.load(grey_onnx), SPEC, scenes) as trial:
        effect = trial.effect(blind_in(grey_onnx, 126), "blind", max_ap_drop=20)
    share = effect.share(INT8_LIMITS)
    assert (effect.ap, effect.ap_drop, effect.ap_drop_high) == (None, None, None)
    assert (share.frames, share.lost, share.compared) == (7, 1, 7)
    assert share.verdict(0.1) == "undecided"
    light = effect.without_pairs(INT8_LIMITS)
    assert (light.pairs, light.share(INT8_LIMITS), light.figures) == ((), share, effect.figures)
    with pytest.raises(ValueError, match="the pairs are gone"):
        light.share(replace(INT8_LIMITS, lost_share=0.2))


def test_where_the_reference_finds_nothing_nothing_can_be_lost(
    grey_onnx: Path, six_frames: Path
) -> None:
    model = onnx.load(grey_onnx)
    (logits,) = (t for t in model.graph.initializer if t.name == "fixed_logits")
    logits.CopyFrom(numpy_helper.from_array(np.full((1, 1, 3), -4, np.float32), "fixed_logits"))
    scenes = unlabelled_scenes(six_frames / "training" / "image_2")
    with pytest.raises(NothingToCompareError, match=r"no detection above 0\.3 in 7 frames"):
        Trial(model, SPEC, scenes)
