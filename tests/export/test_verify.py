"""``edgedetr verify`` on files: checkpoints and ONNX models."""

import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from edgedetr.export.limits import Gate
from edgedetr.export.matching import Rule
from edgedetr.export.parity import verify
from edgedetr.export.textures import textured_frames
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
    assert (values["passed"], values["frames"], values["matched"]) == (True, 1, 1)
    assert (values["unmatched"], values["max_box_error_px"]) == (0, 0)
    assert (values["reference"], values["candidate"]) == ("a.onnx", "b.onnx")
    assert (values["reference_sha256"], values["candidate_sha256"]) == (sha256(a), sha256(b))
    assert values["command"].startswith(f"edgedetr verify {a} {b} --images ")


def test_a_failed_gate_writes_its_json_and_exits_with_1(edgedetr, pair, images, tmp_path):
    a, b = pair(**boxes_moved_by(0.025))  # a pixel of 40
    arguments = ("verify", a, b, "--images", images, "--json", tmp_path / "v.json")
    status, out, error = edgedetr(*arguments)
    assert status == 1
    assert "FAILED: worst box error 1 px, allowed 0.5 px" in out
    assert (
        error
        == f"edgedetr: {b} does not find what {a} finds: worst box error 1 px, allowed 0.5 px; "
        "the first block that departs is block_00\n"
    )
    values = json.loads((tmp_path / "v.json").read_text())
    assert values["passed"] is False
    assert values["max_box_error_px"] == pytest.approx(1, abs=1e-4)
    assert edgedetr(*arguments, "--max-box-error-px", 1.1)[0] == 0


def test_the_options_of_the_gate(edgedetr, pair, images):
    a, b = pair(bias=((-3.5, -9.0), (-9.0, -9.0)))  # 0.982 and 0.989
    arguments = ("verify", a, b, "--images", images)
    assert edgedetr(*arguments)[0] == 1
    assert edgedetr(*arguments, "--max-score-error", 0.01)[0] == 0
    assert edgedetr(*arguments, "--max-score-error", -1)[0] == 2
    a, b = pair(**boxes_moved_by(0.3))
    arguments = ("verify", a, b, "--images", images)
    assert "4 of 4 detections have no partner" in edgedetr(*arguments)[2]
    assert edgedetr(*arguments, "--max-unmatched", 1)[0] == 0


def test_nothing_found_fails_and_a_lower_threshold_helps(edgedetr, pair, images):
    a, b = pair()
    arguments = ("verify", a, b, "--images", images, "--threshold")
    status, _, error = edgedetr(*arguments, 0.99)
    assert status == 1
    assert "no detection above 0.99 in any of 2 frames: nothing was compared" in error
    assert edgedetr(*arguments, 0.9)[0] == 0


def test_an_int8_model_is_held_to_its_own_limits(pair):
    a, b = pair(**boxes_moved_by(0.1))  # 4 pixels of 40
    frames = textured_frames((20, 40))
    limits = verify(a, b, frames, BOTH, Gate()).limits
    assert limits.worst
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
    report = verify(a, b, frames, BOTH, Gate(box_error_px=4.01))
    assert not report.limits.worst
    assert report.passed
    assert 0 < (report.figures.max_score_error or 0) < 8 / 127  # the gain is 8, a step 1 / 127
    assert not verify(a, b, frames, BOTH, Gate(box_error_px=3.99)).passed


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
def test_weights_that_changed_a_little_fail(exported, make_model, tmp_path, part):
    import torch

    from edgedetr.distill.checkpoint import save_model

    model = make_model()
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
