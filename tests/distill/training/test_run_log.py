import json

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.summary.writer.record_writer import RecordWriter

from edgedetr.distill.training.run_log import RunLog


def write_two_epochs(out):
    """Two steps an epoch, evaluated after the first."""
    log = RunLog(out, 0, 2)
    for step in range(4):
        log.step(step, step // 2, {"loss": 4.0 - step, "seconds": 0.5})
        if step == 1:
            log.evaluation(2, 0, {"ap": float("nan"), "ap50": 0.25})
    log.close()
    return (out / "log.jsonl").read_bytes().splitlines(keepends=True)


def steps(out):
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(record["kind"], record["step"]) for record in map(json.loads, lines)]


FIRST_EPOCH = [("step", 0), ("step", 1), ("evaluation", 2)]


def test_a_resumed_log_keeps_the_epochs_that_are_done(tmp_path):
    write_two_epochs(tmp_path)
    log = RunLog(tmp_path, 1, 2)
    assert log.evaluations.keys() == {0}
    assert log.evaluations[0]["ap50"] == 0.25
    log.step(2, 1, {"loss": 2.0})
    log.close()
    assert steps(tmp_path) == [*FIRST_EPOCH, ("step", 2)]
    RunLog(tmp_path, 0, 2).close()
    assert steps(tmp_path) == []


def test_a_log_resumed_within_an_epoch_keeps_its_first_steps(tmp_path):
    write_two_epochs(tmp_path)
    RunLog(tmp_path, 1, 2, 1).close()
    assert steps(tmp_path) == [*FIRST_EPOCH, ("step", 2)]
    RunLog(tmp_path, 0, 2, 1).close()
    assert steps(tmp_path) == [("step", 0)]


@pytest.mark.parametrize(
    "tear",
    [
        lambda lines: [*lines, b'{"kind": "st'],
        lambda lines: [*lines, b"\x00" * 40],
        lambda lines: [*lines, b"[" * 90_000],
        lambda lines: [*lines, b'{"step": 7}\n'],
        lambda lines: [*lines[:3], lines[3][:9] + lines[4]],
        lambda lines: [lines[0], b"\xff\xfe\n", *lines[1:]],
    ],
)
def test_a_torn_line_is_cut_and_said(tmp_path, capsys, tear):
    lines = write_two_epochs(tmp_path)
    (tmp_path / "log.jsonl").write_bytes(b"".join(tear(lines)))
    RunLog(tmp_path, 1, 2).close()
    assert steps(tmp_path) == FIRST_EPOCH
    assert capsys.readouterr().err == f"{tmp_path / 'log.jsonl'}: 1 incomplete line removed\n"


def test_tensorboard_reads_the_figures(tmp_path):
    write_two_epochs(tmp_path)
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = list(LegacyEventFileLoader(str(path)).Load())
    found = {
        (value.tag, event.step): value.simple_value
        for event in events
        for value in event.summary.value
    }
    assert [found["step/loss", step] for step in range(4)] == [4, 3, 2, 1]
    assert found["evaluation/ap50", 2] == 0.25
    assert events[0].file_version == "brain.Event:2"


def test_a_full_disk_names_the_file(tmp_path):
    log = RunLog(tmp_path, 0, 2)
    log._file.close()
    log._file = open("/dev/full", "a", encoding="utf-8")  # noqa: PTH123, SIM115 - closed below
    with pytest.raises(OSError, match="No space left") as caught:
        log.step(0, 0, {"loss": 1.0})
    assert caught.value.filename == str(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match="No space left"):
        log.close()


def test_a_full_disk_names_the_event_file(tmp_path):
    log = RunLog(tmp_path, 0, 2)
    log._scalars.close()
    log._scalars._records = RecordWriter(open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    log.step(0, 0, {"loss": 1.0})
    with pytest.raises(OSError, match="No space left") as caught:
        log.evaluation(1, 0, {"ap": 0.5})
    assert caught.value.filename == str(log._scalars._path)
    with pytest.raises(OSError, match="No space left"):
        log.close()
