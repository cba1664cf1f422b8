from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edgedetr.export.search.coverage_record import (
    CoverageRecord,
    Step,
    coverage_path,
    read_coverage,
)
from edgedetr.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

STEP = Step("stem", ("stem",), 0.25, None, None, kept=True, lost_share=0.04, lost_share_high=0.09)
RECORD = CoverageRecord(
    int8="m.int8.onnx",
    model="m.onnx",
    model_sha256="0",
    command="edgedetr export qdq m.onnx --gate",
    max_ap_drop=None,
    is_worth_it=True,
    coverage=0.25,
    frames=20,
    macs=100,
    fp32_ap=None,
    ap=None,
    chosen=("stem",),
    curve=(STEP,),
    blocks=(),
    said="25.0% in INT8",
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = RECORD.write(tmp_path / "m.int8.onnx")
    assert written == coverage_path(tmp_path / "m.int8.onnx")
    assert written.name == "m.int8.onnx.coverage.json"
    assert read_coverage(written) == RECORD


def test_files_from_before_the_gate_are_read(tmp_path: Path) -> None:
    path = RECORD.write(tmp_path / "m.int8.onnx")
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("nothing_to_compare", "said"):
        del values[name]
    for name in ("ap_drop_high", "lost_share", "lost_share_high"):
        del values["curve"][0][name]
    path.write_text(json.dumps(values), encoding="utf-8")
    found = read_coverage(path)
    assert (found.nothing_to_compare, found.said) == (False, "")
    assert (found.curve[0].lost_share, found.curve[0].kept) == (None, True)


def test_a_step_costs_points_of_ap_or_without_labels_detections() -> None:
    assert STEP.cost() == "4.00% of the detections"
    labelled = Step("stem", ("stem",), 0.25, 39.6, 0.4, kept=True, lost_share=0.04)
    assert labelled.cost() == "0.40 points of AP"


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.coverage.json"
    path.write_text(json.dumps({"int8": "x"}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="no coverage record"):
        read_coverage(path)
