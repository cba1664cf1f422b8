"""FFmpeg is silent unless somebody wants to hear it."""

import os

import pytest

from edgedetr.runtime.sources.capture import silence_libraries

LEVEL = "OPENCV_FFMPEG_LOGLEVEL"


@pytest.mark.parametrize(("before", "after"), [(None, "-8"), ("48", "48")])
def test_a_level_that_is_set_stays(monkeypatch, before, after):
    monkeypatch.setenv(LEVEL, "x")  # so that it is put back
    monkeypatch.delenv(LEVEL)
    if before:
        monkeypatch.setenv(LEVEL, before)
    silence_libraries()
    assert os.environ[LEVEL] == after
