"""A report is read back as it was written, and what is no report is refused."""

import pytest

from edgedetr.bench.report.record import read_report
from edgedetr.runtime.errors import ArtifactError


def test_figures_are_found_by_dotted_path(report_json):
    record = read_report(report_json())
    assert record.models["student"]["ap"] == 0.4
    assert record.models["student"]["latency_ms.p99"] == 9
    assert record.models["student"]["ap50_by_class.Car"] == 0.7
    assert "agreement_with_teacher" not in record.models["student"]  # null
    assert (record.frames, record.verdict) == (180, "passed")
    assert record.data == "data/synth (kitti, val)"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"models": 3}', '{"a": NaN}', "[" * 10**5, '{"models": [{"name": 1}]}'],
)
def test_what_is_no_report_is_one_line(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"report\.json is no report") as error:
        read_report(tmp_path / "report.json")
    assert "\n" not in str(error.value)


def test_a_missing_report_is_one_line(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot be read .*; make it with edgedetr report"):
        read_report(tmp_path / "report.json")


def test_a_report_of_the_command_is_read(reported_run):
    record = read_report(reported_run / "report.json")
    assert list(record.models) == ["teacher", "student", "student.int8"]
    assert record.teacher()["ap50"] == 1


def test_texts_of_a_report_stay_on_their_line(report_json):
    processor = {"processor": "CPU\nall fine", "cores": 2}
    record = read_report(report_json(student="s\n\x1b[2Jall fine", machine=processor))
    assert "s \\x1b[2Jall fine" in record.models
    assert record.machine == "CPU all fine, 2 cores"
