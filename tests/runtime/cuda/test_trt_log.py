"""TensorRT answers None or False; its log says why."""

import logging
from types import ModuleType
from typing import Any

import pytest

from edgedetr.runtime.cuda.trt_log import TrtLog


@pytest.fixture
def trt():
    """What a logger needs of TensorRT: severities, and a base class that must be initialised."""

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

        def __init__(self):
            self.is_ready = True

    library: Any = ModuleType("tensorrt")
    library.ILogger = ILogger
    return library


def test_the_last_error_is_the_reason_until_it_is_cleared(trt):
    log = TrtLog(trt)
    assert log.logger.is_ready
    assert log.reason() == "no reason given"
    log.logger.log(trt.ILogger.ERROR, "first")
    log.logger.log(trt.ILogger.INTERNAL_ERROR, "Error Code 2:\n  out of memory")
    log.logger.log(trt.ILogger.WARNING, "a warning")
    assert log.reason() == "Error Code 2: out of memory"
    log.clear()
    assert log.reason() == "no reason given"


def test_from_a_warning_up_all_goes_to_pythons_logging(trt, caplog):
    caplog.set_level(logging.DEBUG, "edgedetr")
    log = TrtLog(trt)
    for severity in ("ERROR", "WARNING", "INFO"):
        log.logger.log(getattr(trt.ILogger, severity), severity.lower())
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert found == [("ERROR", "error"), ("WARNING", "warning")]


def test_sessions_of_a_process_share_one_logger(trt):
    first, second = TrtLog(trt), TrtLog(trt)
    assert first.logger is second.logger
    first.logger.log(trt.ILogger.ERROR, "seen by both")
    assert second.reason() == "seen by both"
