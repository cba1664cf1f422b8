"""A fleet's policy decides, whatever options a package was made with."""

import json
import re
from pathlib import Path

import pytest

from edgedetr.export.package.policy import Policy, read_policy
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.errors import GateError, SettingsError
from edgedetr.runtime.files import sha256
from edgedetr.runtime.manifest import write_manifest
from edgedetr.runtime.spec import ModelSpec


@pytest.fixture
def policy(tmp_path):
    """Writes a policy file."""

    def write(text):
        path = tmp_path / "fleet.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def given(fp32, int8, report, stats, checked):
    """An INT8 model and its FP32 model with all that a package wants of them."""
    parity = (*checked["parity"], report(fp32, int8))
    return {"models": (int8, fp32), "parity": parity, "calibration": stats}


def test_a_policy_that_is_fulfilled(policy, given, tmp_path):
    path = policy(
        'require = ["checkpoint"]\nmin_calibration_frames = 40\n'
        "[int8]\nmin_frames = 40\nmax_threshold = 0.3\nmin_iou = 0.8\nmax_score_error = 0.1\n"
        "max_lost = 0.1\n[fp32]\nmax_box_error_px = 0.5\nmax_lost = 0.0\n"
    )
    made = package(Contents(**given, policy=path), tmp_path / "p.tar")
    assert made.gates[-1] == "policy fleet.toml is fulfilled"
    assert read_policy(policy("")) == Policy()


def test_the_documented_policy_is_one(policy):
    docs = Path(__file__).parents[3] / "docs" / "packages.md"
    (example,) = re.findall(r"```toml\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    found = read_policy(policy(example))
    assert found.require == ("accuracy", "checkpoint")
    assert (found.fp32.max_lost, found.fp16.min_iou, found.int8.max_lost) == (0.0, 0.95, 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[int8]\nmin_frames = 41", r"verify\.m\.int8\.json has frames 40, wanted at least 41"),
        ("[int8]\nmin_iou = 0.9", "has limit of IoU 0.8, wanted at least 0.9"),
        ("[int8]\nmax_threshold = 0.2", "has threshold 0.3, wanted at most 0.2"),
        ("[int8]\nmax_score_error = 0.05", "has limit of the score error 0.1, wanted at most 0.05"),
        ("[int8]\nmax_lost = 0.05", "has limit of lost detections 0.1, wanted at most 0.05"),
        ("[int8]\nmax_box_error_px = 9.0", "has limit of the box error none, wanted at most 9"),
        (
            "[fp32]\nmax_box_error_px = 0.1",
            r"verify\.m\.json has limit of the box error 0\.5, want",
        ),
        ("min_calibration_frames = 100", "at least 100 frames of calibration, found 40"),
        ('require = ["accuracy"]', r"requires accuracy: .*report\.json with --report"),
    ],
)
def test_what_is_not_fulfilled(policy, refuses, given, text, message):
    models = given.pop("models")
    refuses(rf"fleet\.toml.*{message}", models, policy=policy(text), references=(), **given)


def test_an_import_is_no_checkpoint(policy, refuses, fp32):
    message = r"requires checkpoint: m\.onnx comes from an import"
    refuses(message, [fp32], policy=policy('require = ["checkpoint"]'))


def test_accuracy_is_there(policy, fp32, checked, tmp_path):
    path = tmp_path / "report.json"
    measured = [{"name": "m", "sha256": sha256(fp32)}]
    path.write_text(json.dumps({"models": measured, "parity": []}), encoding="utf-8")
    wanted = policy('require = ["accuracy"]')
    made = package(Contents(**checked, report=path, policy=wanted), tmp_path / "p.tar")
    assert made.gates[-1] == "policy fleet.toml is fulfilled"


def test_an_engine_needs_a_report_where_that_is_required(policy, fp32, checked, report, tmp_path):
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"engine")
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    write_manifest(engine, kind="engine", command="", spec=spec, parents=[fp32])
    given = {**checked, "engines": (engine,), "policy": policy('require = ["engine"]')}
    with pytest.raises(GateError, match=r"requires engine: m\.engine has no report; run edgedetr"):
        package(Contents(**given), tmp_path / "p.tar")
    own = report(fp32, engine).rename(tmp_path / "verify.engine.json")
    checkpoint = fp32.with_name("m.safetensors")
    given["parity"] = (report(checkpoint, fp32), own)
    assert package(Contents(**given), tmp_path / "p.tar").gates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[int8]\nmin_iuo = 0.5", "int8: unknown key 'min_iuo'; did you mean 'min_iou'"),
        ("min_calibration_frame = 5", "did you mean 'min_calibration_frames'"),
        ('require = ["acuracy"]', "'acuracy' is no choice; did you mean 'accuracy'"),
        ("[fp16]\nmax_lost = 2.0", "fp16: max_lost must lie in 0 to 1"),
        ("[fp16]\nmin_frames = 0", "min_frames must be at least 1"),
        ("[fp16]\nmax_score_error = -1.0", "a limit must not be negative"),
        ("[fp16]\nmax_lost = nan", "wanted a finite number"),
        ("[fp16", "not a readable TOML file"),
    ],
)
def test_what_is_no_policy(policy, refuses, fp32, text, message):
    refuses(message, [fp32], error=SettingsError, policy=policy(text))
