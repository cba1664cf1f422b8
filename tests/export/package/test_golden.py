"""What a package notes of its models, so that the self-test can fail."""

import pytest

from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.package.reader import read_package


def test_a_model_that_finds_nothing(refuses, tiny_onnx):
    path = tiny_onnx(boxes=((0.5, 0.5, 0, 0), (0.5, 0.5, 0, 0)))
    refuses(
        "has no stable detection of score 0.1 or more in the golden frame",
        [path],
        references=(path,),
    )


def test_a_model_that_is_sure_of_nothing(refuses, tiny_onnx, fp32, monkeypatch):
    weak = tiny_onnx(bias=((-9.0, -9.0), (-9.0, -9.0)))
    refuses("has no stable detection", [weak], references=(weak,))
    monkeypatch.setattr("edgedetr.export.package.golden.lost_detections", lambda *_: (0,))
    refuses("has no stable detection", [fp32])


def test_what_ordinary_kernels_do_not_find_is_no_golden_detection(tiny_onnx, key, tmp_path):
    """Exactly computed it finds two; where the usual session finds one, that one is noted."""
    model = tiny_onnx(bias=((-1.0, -9.0), (2.0, -9.0)))
    found = []
    for name, lost in (("both", ()), ("one", (0,))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "edgedetr.export.package.golden.lost_detections", lambda *_, lost=lost: lost
            )
            package(Contents((model,), references=(model,)), tmp_path / f"{name}.tar", key)
        with read_package(tmp_path / f"{name}.tar", key.with_name("k.pub")) as opened:
            found.append(opened.golden.answers[0].scores)
    assert [len(scores) for scores in found] == [2, 1]
    assert found[1] == found[0][1:]


def test_logits_may_move_twice_as_far_as_here(tiny_onnx, monkeypatch, tmp_path):
    model = tiny_onnx()
    for moved, allowed in ((0.0, 0.02), (0.04, 0.08)):
        monkeypatch.setattr(
            "edgedetr.export.package.golden.logit_difference", lambda *_, moved=moved: moved
        )
        package(Contents((model,), references=(model,)), tmp_path / "p.tar")
        with read_package(tmp_path / "p.tar", require_signature=False) as opened:
            (answer,) = opened.golden.answers
        assert answer.logit_error == allowed
        assert [len(view) for view in answer.logits] == 4 * [4]  # two queries of two classes
