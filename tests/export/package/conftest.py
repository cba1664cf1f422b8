"""Small models with what a package wants to see of them."""

import json
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

from edgedetr.export.package.write import Contents, package
from edgedetr.graph.checksum import model_sha256
from edgedetr.runtime.errors import GateError

FIGURES = {
    "frames": 40,
    "matched": 200,
    "unmatched": 0,
    "unmatched_share": 0.0,
    "max_box_error_px": 0.1,
    "p99_box_error_px": 0.1,
    "min_iou": 0.99,
    "max_score_error": 0.0004,
    "mean_score_error": 0.0001,
    "mean_score_drop": 0.0,
    "max_score_drop": 0.0004,
    "non_finite": 0,
    "tied_frames": 0,
    "compared": 200,
    "lost": 0,
    "lost_share": 0.0,
    "lost_share_low": 0.0,
    "lost_share_high": 0.04,
    "error_rate": 0.05,
    "frames_needed": None,
}
"""Of a comparison that passes in any precision."""
LIMITS: dict[str, dict[str, Any]] = {
    "fp32": {"iou": 0.0, "score_error": 1e-3, "lost_share": 0.0, "box_error_px": 0.5},
    "int8": {"iou": 0.8, "score_error": 0.1, "lost_share": 0.1, "box_error_px": None},
}


@pytest.fixture
def report(tmp_path):
    """Writes a report of ``edgedetr verify`` about two files; it passed unless changes say other.

    With ``lost`` it says how many of the 200 detections were lost.
    """

    def write(reference, candidate, lost=0, **changes):
        precision = "int8" if "int8" in candidate.name else "fp32"
        values: dict[str, Any] = {"passed": True, "verdict": "passed", "reason": "", **FIGURES}
        values |= {
            "limits": LIMITS[precision] | {"exact": precision == "fp32"},
            "threshold": 0.3,
            "reference": reference.name,
            "reference_sha256": model_sha256(reference),
            "reference_precision": "fp32",
            "candidate": candidate.name,
            "candidate_sha256": model_sha256(candidate),
            "candidate_precision": precision,
            "command": "edgedetr verify",
            "worst_frames": [],
            "batches": [],
            "activations": None,
        }
        if lost:
            share = lost / 200
            values |= {"lost": lost, "lost_share": share, "lost_share_low": share / 2}
            values |= {"lost_share_high": 2 * share + 0.04, "passed": False, "verdict": "failed"}
        path = tmp_path / f"verify.{candidate.stem}.json"
        path.write_text(json.dumps(values | changes), encoding="utf-8")
        return path

    return write


@pytest.fixture
def accuracy(tmp_path):
    """Writes the ``report.json`` of a model; changes are of the model's figures or the report."""

    def write(model, **changes):
        figures = {"ap": 0.4, "ap50": 0.6, "ap50_by_class": {"Car": 0.9}}
        named = {"name": model.stem, "sha256": model_sha256(model), **figures}
        named |= {key: value for key, value in changes.items() if key in figures}
        values: dict[str, Any] = {"verdict": "passed", "models": [named], "parity": []}
        counts = {"frames": 180, "objects": {"Car": 371, "Pedestrian": 159}}
        values["data"] = {"root": "roads", "split": "val", "format": "kitti", **counts}
        values |= {key: value for key, value in changes.items() if key not in figures}
        path = tmp_path / "report.json"
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    return write


@pytest.fixture
def int8_checked(int8, fp32, stats, report):
    """The keywords of `Contents` by which the small INT8 model has a chain from an import."""
    return {
        "models": (int8,),
        "references": (fp32,),
        "parity": (report(fp32, int8),),
        "calibration": stats,
    }


@pytest.fixture
def checked(fp32, report):
    """The keywords of `Contents` by which the small FP32 model has a chain from a checkpoint."""
    checkpoint = fp32.with_name("m.safetensors")
    checkpoint.write_bytes(b"weights")
    return {"models": (fp32,), "parity": (report(checkpoint, fp32),)}


@pytest.fixture
def refuses(tmp_path):
    """Calls ``package``, which must refuse with a message and leave nothing.

    FP32 models among them are imports unless other references are given.
    """

    def check(message, models, error=GateError, key=None, **contents):
        imports = tuple(m for m in models if m.name == "m.onnx" and m.is_file())
        contents = {"references": imports, **contents}
        for output in (tmp_path / "out" / "p.tar", tmp_path / "out" / "p"):
            with pytest.raises(error, match=message):
                package(Contents(tuple(models), **contents), output, key)
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

    return check


@pytest.fixture
def weights_beside():
    """Writes the same model with its weights in a file of its own; returns both."""

    def write(path, folder):
        folder.mkdir()
        weights = f"{path.stem}.bin"
        made = folder / path.name
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and tensor.dims:
                set_external_data(tensor, weights)
        onnx.save(model, made)
        return made, folder / weights

    return write
