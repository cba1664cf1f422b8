"""What of a builder's log is kept, and what its progress says."""

import pytest

from edgedetr.export.engine.log import EngineLog
from edgedetr.export.to_engine import export_engine


def test_a_log_keeps_all_but_what_is_verbose_a_message_a_line():
    log = EngineLog()
    log.add("INFO", "Opset version: 17")
    log.add("VERBOSE", "ten thousand of these")
    log.add("ERROR", "Error Code 10:\n  no implementation")
    assert log.text() == "INFO: Opset version: 17\nERROR: Error Code 10: no implementation\n"


def test_the_last_error_is_the_one_that_counts():
    log = EngineLog()
    assert log.last_error() == ""
    for severity in ("ERROR", "INTERNAL_ERROR", "WARNING"):
        log.add(severity, severity.lower())
    assert log.last_error() == "internal_error"


@pytest.mark.parametrize(
    ("messages", "mib"),
    [
        ([], None),
        (["Total Weights Memory: 1048576 bytes"], 1.0),
        (["Total Weights Memory: 1048576 bytes", "Total Weights Memory: 524288 bytes"], 0.5),
        (["plugin: Total Weights Memory: 1048576 bytes"], None),
    ],
)
def test_the_size_of_the_weights_is_what_was_said_last(messages, mib):
    log = EngineLog()
    for message in messages:
        log.add("INFO", message)
    assert log.weights_mib() == mib


@pytest.mark.parametrize("monitored", [True, False])
def test_progress_is_told_where_the_library_can(tensorrt, model, tmp_path, monitored):
    seen, steps = tensorrt(monitored=monitored), []
    export_engine(model(), tmp_path / "net.engine", on_step=lambda *step: steps.append(step))
    told = [("Building engine", done, 2) for done in (0, 1, 2)]
    assert steps == (told if monitored else [])
    assert hasattr(seen.config, "progress_monitor") == monitored
