"""``edgedetr verify`` on files: checkpoints and ONNX models."""

import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from edgedetr.export.transforms.textures import textured_frames
from edgedetr.export.verify.compare import verify
from edgedetr.export.verify.frames import gate_images
from edgedetr.export.verify.limits import Gate
from edgedetr.export.verify.matching import Rule
from edgedetr.runtime.files import sha256

BOTH = Rule(threshold=0.0, top=20)


@pytest.fixture
def images(tmp_path):
    """Two white images: the tiny model finds a car of score 0.98 in each."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((20, 40, 3), 255, np.uint8))
    return folder


@pytest.fixture
def pair(tiny_onnx, tmp_path):
    """Makes two tiny models, the second with other boxes."""

    def make(**changes):
        first = tiny_onnx().rename(tmp_path / "a.onnx")
        return first, tiny_onnx(**changes).rename(tmp_path / "b.onnx")

    return make


def boxes_moved_by(fraction):
    return {"boxes": ((0.5 + fraction, 0.5, 0.5, 0.5), (0.25, 0.25, 0.5, 0.5))}


def test_equal_models_pass(edgedetr, pair, images, tmp_path):
    a, b = pair()
    status, out, _ = edgedetr(
        *("verify", a, b, "--images", images, "--frames", 1),
        *("--json", tmp_path / "deep" / "v.json"),
    )
    assert status == 0
    assert out.endswith("passed\n")
    values = json.loads((tmp_path / "deep" / "v.json").read_text())
    assert (values["passed"], values["verdict"]) == (True, "passed")
    assert (values["frames"], values["matched"]) == (1, 4)  # two queries, two classes, any score
    assert (values["unmatched"], values["max_box_error_px"]) == (0, 0)
    assert (values["reference"], values["candidate"]) == ("a.onnx", "b.onnx")
    assert (values["reference_sha256"], values["candidate_sha256"]) == (sha256(a), sha256(b))
    assert values["command"].startswith(f"edgedetr verify {a} {b} --images ")


def test_a_failed_gate_writes_its_json_and_exits_with_1(edgedetr, pair, images, tmp_path):
    a, b = pair(**boxes_moved_by(0.025))  # a pixel of 40
    arguments = ("verify", a, b, "--images", images, "--json", tmp_path / "v.json")
    status, out, error = edgedetr(*arguments)
    assert status == 1
    assert "FAILED: max box error 1 px, allowed 0.5 px" in out
    assert (
        error == f"edgedetr: {b} does not find what {a} finds: max box error 1 px, allowed 0.5 px; "
        "the first diverging block is block_00\n"
    )
    values = json.loads((tmp_path / "v.json").read_text())
    assert (values["passed"], values["verdict"]) == (False, "failed")
    assert values["max_box_error_px"] == pytest.approx(1, abs=1e-4)
    assert edgedetr(*arguments, "--max-box-error-px", 1.1)[0] == 0


def test_the_options_of_the_gate(edgedetr, pair, images):
    a, b = pair(bias=((-3.5, -9.0), (-9.0, -9.0)))  # 0.982 and 0.989
    arguments = ("verify", a, b, "--images", images)
    assert edgedetr(*arguments)[0] == 1
    assert edgedetr(*arguments, "--max-score-error", 0.01)[0] == 0
    assert edgedetr(*arguments, "--max-score-error", -1)[0] == 2
    assert edgedetr(*arguments, "--min-iou", 0.5, "--max-score-error", 0.01)[0] == 0
    a, b = pair(**boxes_moved_by(0.025))
    assert edgedetr(*arguments, "--max-box-error-px", 1.1)[0] == 0
    assert "max box error 1 px" in edgedetr(*arguments)[2]
    assert edgedetr(*arguments, "--max-box-error-px", 1.1, "--min-iou", 0.95)[0] == 1
    a, b = pair(**boxes_moved_by(0.3))
    assert "8 of 12 detections unmatched" in edgedetr(*arguments)[2]


def test_with_a_share_that_may_be_lost_fp32_is_tested_too(edgedetr, pair, images):
    a, b = pair(**boxes_moved_by(0.3))
    arguments = ("verify", a, b, "--images", images, "--max-lost")
    status, _, error = edgedetr(*arguments, 0.5)
    assert status == 1
    assert "may not find what" in error
    assert "4 of 4 detections lost" in error
    assert edgedetr(*arguments, 1)[0] == 0
    assert edgedetr(*arguments, 1.1)[0] == 2


@pytest.fixture
def half_pair(pair):
    """Makes two tiny models, the second of which counts as FP16, for some of it is."""

    def make(**changes):
        first, second = pair(**changes)
        model = onnx.load(second)
        half = onnx.helper.make_node(
            "Cast", ["mean"], ["half"], "cast", to=onnx.TensorProto.FLOAT16
        )
        model.graph.node.append(half)
        onnx.save(model, second)
        return first, second

    return make


@pytest.fixture
def white(images):
    """A folder of 45 white images."""
    for number in range(45 - len(list(images.iterdir()))):
        cv2.imwrite(str(images / f"c{number:02}.png"), np.full((20, 40, 3), 255, np.uint8))
    return images


def written(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_passed_stops_early(edgedetr, half_pair, white, tmp_path):
    """By hand: of two looks each has 2.5 %, and 1 - 0.025 ** (1 / 40) = 8.8 %."""
    a, b = half_pair()
    out = tmp_path / "v.json"
    arguments = ("verify", a, b, "--images", white, "--json", out)
    status, text, error = edgedetr(*arguments, "--max-lost", 0.1)
    assert (status, error) == (0, "")
    assert text.endswith("passed\n")
    values = written(out)
    assert (values["verdict"], values["passed"], values["frames_needed"]) == ("passed", True, None)
    assert (values["frames"], values["compared"], values["lost"]) == (40, 40, 0)
    assert values["error_rate"] == 0.025
    assert values["lost_share_high"] == pytest.approx(0.0881, abs=1e-4)


def test_what_failed_stops_early(edgedetr, half_pair, white, tmp_path):
    a, b = half_pair(bias=((-3.5, -9.0), (-9.0, -9.0)))  # 0.982 and 0.989 in score
    out = tmp_path / "v.json"
    arguments = ("verify", a, b, "--images", white, "--json", out)
    status, text, error = edgedetr(*arguments, "--max-score-error", 0.005)
    assert status == 1
    assert "FAILED: 40 of 40 detections lost (100.00%" in text
    assert error.startswith(f"edgedetr: {b} does not find what {a} finds: 40 of 40 detections")
    values = written(out)
    assert (values["verdict"], values["passed"], values["frames_needed"]) == ("failed", False, None)
    assert (values["frames"], values["lost_share"], values["lost_share_high"]) == (40, 1, 1)
    assert edgedetr(*arguments, "--max-lost", 0.1)[0] == 0  # within FP16's 0.01


def test_an_undecided_verdict_estimates_the_frames_it_needs(edgedetr, half_pair, white, tmp_path):
    """FP16 may lose 2 %: 45 frames with one detection each are too few to tell."""
    a, b = half_pair()
    out = tmp_path / "v.json"
    status, text, error = edgedetr("verify", a, b, "--images", white, "--json", out)
    assert status == 1
    values = written(out)
    assert (values["verdict"], values["passed"], values["frames"]) == ("undecided", False, 45)
    more = values["frames_needed"]
    assert 0.98 ** (45 + more) <= 0.025 < 0.98 ** (45 + more / 1.2)
    assert "UNDECIDED: 0 of 45 detections lost" in text
    assert error.startswith(f"edgedetr: {b} may not find what {a} finds: 0 of 45 detections")
    assert f"about {more} more frames would decide" in error
    assert error.count("\n") == 1


def test_frames_come_in_an_order_of_their_own(edgedetr, pair, white, tmp_path):
    """Where all agree alike, the worst frames are the first."""
    a, b = pair()
    seen = []
    for name in ("v.json", "w.json"):
        assert edgedetr("verify", a, b, "--images", white, "--json", tmp_path / name)[0] == 0
        seen.append([frame["frame"] for frame in written(tmp_path / name)["worst_frames"]])
    assert seen[0] == seen[1] == [path.name for path in gate_images(white, None, 400)[:3]]
    assert seen[0] != sorted(path.name for path in white.iterdir())[:3]


def test_the_frames_of_a_kitti_folder_are_its_validation_split(edgedetr, pair, white, tmp_path):
    a, b = pair()
    root, out = tmp_path / "kitti", tmp_path / "v.json"
    (root / "training").mkdir(parents=True)
    (root / "ImageSets").mkdir()
    white.rename(root / "training" / "image_2")
    (root / "ImageSets" / "train.txt").write_text("a\nc00\n", encoding="utf-8")
    (root / "ImageSets" / "val.txt").write_text("b\nc01\nc02\n", encoding="utf-8")
    assert edgedetr("verify", a, b, "--data", root, "--json", out)[0] == 0
    values = written(out)
    assert values["frames"] == 3
    assert {f["frame"] for f in values["worst_frames"]} == {"b.png", "c01.png", "c02.png"}
    for wrong in ((), ("--data", root, "--images", white)):
        status, _, error = edgedetr("verify", a, b, *wrong)
        assert (status, "give either --data ROOT or --images DIR" in error) == (2, True)


def test_without_detections_nothing_is_decided_and_a_lower_threshold_helps(
    edgedetr, half_pair, white
):
    a, b = half_pair()
    arguments = ("verify", a, b, "--images", white, "--max-lost", 0.1, "--threshold")
    status, _, error = edgedetr(*arguments, 0.99)
    assert status == 1
    assert "may not find what" in error
    assert "no detection above 0.99 in 45 frames, so nothing was compared" in error
    assert edgedetr(*arguments, 0.9)[0] == 0


def test_an_int8_model_is_held_to_its_own_limits(pair):
    a, b = pair(**boxes_moved_by(0.1))  # 4 pixels of 40: IoU 16 / 24
    frames = textured_frames((20, 40), 40)
    limits = verify(a, b, frames, BOTH, Gate()).limits
    assert limits.exact
    model = onnx.load(b)
    mean = next(i for i, node in enumerate(model.graph.node) if node.name == "amplify")
    model.graph.node[mean].input[0] = "mean_again"
    constants = {"scale": np.float32(1 / 127), "zero_point": np.int8(0)}
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    quantize = onnx.helper.make_node("QuantizeLinear", ["mean", *constants], ["mean_int8"])
    back = onnx.helper.make_node("DequantizeLinear", ["mean_int8", *constants], ["mean_again"])
    model.graph.node.insert(mean, back)
    model.graph.node.insert(mean, quantize)
    onnx.save(model, b)
    found = verify(a, b, frames, BOTH, Gate(iou=0.6, box_error_px=4.01))
    assert not found.limits.exact
    assert found.share.verdict(found.limits.lost_share) == "passed"
    assert 0 < (found.figures.max_score_error or 0) < 8 / 127  # the gain is 8, a step 1 / 127
    # a block with other outputs is a fault, whatever is lost
    assert found.verdict == "failed"
    assert found.reason.startswith("1 INT8 block diverges from its calibration: block_00 (int8)")
    for gate in (Gate(iou=0.6, box_error_px=3.99), Gate(iou=0.7), Gate()):
        share = verify(a, b, frames, BOTH, gate).share  # the boxes of one of two queries
        assert (share.verdict(0.1), share.share) == ("failed", 0.5)


@pytest.mark.parametrize(
    ("name", "content", "status", "message"),
    [
        ("none.onnx", None, 1, "none.onnx is missing"),
        ("none.safetensors", None, 1, "no checkpoint"),
        ("bad.onnx", b"\x08\x08" + 40 * b"\xff", 1, "bad.onnx: not a whole ONNX model"),
        ("empty.onnx", b"", 1, "empty.onnx: not a whole ONNX model"),
        ("bad.safetensors", b"\xff" * 40, 1, "bad.safetensors is no readable safetensors file"),
        ("model.pt", b"", 2, "model.pt: wanted a .safetensors checkpoint, an .onnx model or a"),
    ],
)
def test_a_bad_model_is_one_line(try_model, name, content, status, message):
    found, error, written = try_model(name, content)
    assert found == status
    assert message in error
    assert error.count("\n") == 1
    assert not written


@pytest.fixture
def try_model(edgedetr, pair, images, tmp_path):
    """Verifies a good model against a file of some content."""

    def run(name, content):
        path, out = tmp_path / name, tmp_path / "v.json"
        if content is not None:
            path.write_bytes(content)
        status, _, error = edgedetr("verify", pair()[0], path, "--images", images, "--json", out)
        return status, error, out.exists()

    return run


def test_a_bad_image_is_one_line(edgedetr, pair, images, tmp_path):
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:60])
    out = tmp_path / "v.json"
    status, _, error = edgedetr("verify", *pair(), "--images", images, "--json", out)
    assert status == 1
    assert "b.png: not a whole PNG or JPEG image" in error
    assert not out.exists()


@pytest.mark.slow
def test_a_checkpoint_and_its_export_are_equal(checkpoint, exported):
    frames = textured_frames((64, 96), 3)
    report = verify(checkpoint, exported[0], frames, BOTH, Gate())
    assert report.passed, report.reason
    assert report.figures.matched >= 60
    back = verify(exported[0], checkpoint, frames, BOTH, Gate())
    one, other = (
        replace(r.figures, mean_score_drop=None, max_score_drop=None) for r in (report, back)
    )
    assert one == other
    assert (report.figures.mean_score_drop or 0) + (back.figures.mean_score_drop or 0) == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["backbone", "encoder", "decoder"])
def test_weights_that_changed_a_little_fail(exported, settled_model, tmp_path, part):
    import torch

    from edgedetr.distill.weights.checkpoint import save_model

    model = settled_model()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.startswith(f"model.{part}"):
                parameter.mul_(1 + 0.02 * torch.randn_like(parameter))
    save_model(tmp_path / "other.safetensors", model, command="tamper")
    report = verify(
        tmp_path / "other.safetensors", exported[0], textured_frames((64, 96), 2), BOTH, Gate()
    )
    assert not report.passed
