"""Every model has a chain of passed reports, from a checkpoint or an import."""

import json
import shutil

import onnx
import pytest

from edgedetr.export.package.write import Contents, package
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.package.reader import read_package
from edgedetr.runtime.spec import ModelSpec


def documented(path):
    """Make another file of the same model."""
    model = onnx.load(path)
    model.doc_string = "changed"
    onnx.save(model, path)


def test_what_is_in_less_than_fp32_needs_a_report(refuses, fp32, int8, report, stats):
    refuses("is int8 and has no report", [int8], calibration=stats)
    failed = report(fp32, int8, lost=80, reason="worst box error 9 px, allowed 8 px")
    refuses(
        r"verify\.m\.int8\.json: m\.int8\.onnx does not find what .* 9 px, allowed 8 px",
        [int8, fp32],
        parity=(failed,),
        calibration=stats,
    )


def test_fp32_without_a_report_is_no_start_of_its_own(refuses, fp32, checked, tmp_path):
    message = (
        r"m\.onnx is fp32 and has no report; run edgedetr verify CHECKPOINT\.safetensors .*m\.onnx "
        r"--json V\.json and give --parity V\.json; where others made it: --reference"
    )
    refuses(message, [fp32], references=())
    made = package(Contents(**checked), tmp_path / "p.tar")
    assert made.gates == (
        "m.onnx against m.safetensors: frames 40, matched 200, unmatched 0, p99 box error px 0.1, "
        "mean score error 0.0001, 0 lost; limits: scores from 0.3, sides within 0.5 px, scores "
        "within 0.001, at most 0.00% lost",
    )
    documented(fp32)
    refuses(r"verify\.m\.json is about another model", [fp32], parity=checked["parity"])


def test_the_chain_of_an_import_begins_with_its_hash(tiny_onnx, fp32, tmp_path):
    foreign = tiny_onnx(store_spec=False)
    spec = ModelSpec((8, 16), ("Car", "Pedestrian"))
    for models, given in (((foreign,), {"spec": spec}), ((fp32,), {"references": (fp32,)})):
        made = package(Contents(models, **given), tmp_path / "p.tar")
        name, found = models[0].name, model_sha256(models[0])
        line = f"{name} is an import: its chain begins with its SHA-256 {found}"
        assert made.gates == (line,)
        with read_package(tmp_path / "p.tar", require_signature=False) as opened:
            chain = json.loads(opened.read("checks/chain.json"))
        assert chain == {
            "starts": [{"name": name, "sha256": found, "kind": "import"}],
            "reports": [],
        }


def test_a_failed_report_stops_fp32_as_well(refuses, fp32, report):
    checkpoint = fp32.with_name("m.safetensors")
    checkpoint.write_bytes(b"weights")
    refuses("does not find", [fp32], parity=(report(checkpoint, fp32, lost=1, reason="1 lost"),))


def test_an_undecided_report_is_no_pass(refuses, fp32, int8, report, stats):
    """It says how many frames it needs, and what is to be told is its reason."""
    undecided = {"verdict": "undecided", "reason": "about 19 more frames"}
    checks = (report(fp32, int8, lost=20, **undecided),)
    message = (
        r"m\.int8\.onnx is not known to find what m\.onnx finds: about 19 more frames; nothing"
    )
    refuses(message, [int8, fp32], parity=checks, calibration=stats)


def test_reports_lead_from_a_trusted_start(refuses, fp32, int8, report, stats, tmp_path):
    given = {"parity": (report(fp32, int8),), "calibration": stats}
    refuses(r"start at m\.onnx, which has no report itself; .*--reference", [int8], **given)
    other = shutil.copy(int8, tmp_path / "other.onnx")
    refuses(r"reference .*other\.onnx is int8, not FP32", [int8], references=(other,), **given)
    assert package(Contents((int8,), references=(fp32,), **given), tmp_path / "a.tar").gates
    checkpoint = tmp_path / "m.safetensors"
    checkpoint.write_bytes(b"weights")
    given["parity"] += (report(checkpoint, fp32),)
    assert package(Contents((int8,), **given), tmp_path / "b.tar").gates
    assert not (tmp_path / "out").exists()


def test_reports_in_a_circle_are_no_start(refuses, int8, report, stats, tmp_path):
    other = tmp_path / "other.onnx"
    shutil.copy(int8, other)
    documented(other)
    parity = (report(other, int8), report(int8, other))
    refuses("which has no report itself", [int8], parity=parity, calibration=stats)


def test_a_report_of_another_model(refuses, fp32, int8, report, stats):
    about = report(fp32, int8, candidate_sha256="12" * 32)
    refuses(
        r"verify\.m\.int8\.json is about another model: m\.int8\.onnx \(121212121212\.\.\.\)",
        [int8, fp32],
        parity=(about,),
        calibration=stats,
    )
    refuses("about another model", [fp32], parity=(report(fp32, int8),))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"passed": "yes"}', "[" * 100_000])
def test_a_report_that_is_none(refuses, fp32, tmp_path, text):
    path = tmp_path / "v.json"
    path.write_text(text, encoding="utf-8")
    refuses(r"v\.json", [fp32], error=ArtifactError, parity=(path,))
