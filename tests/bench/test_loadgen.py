"""Percentiles as LoadGen computes them, by hand and by LoadGen itself."""

from __future__ import annotations

import re
import time
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import pytest

from edgedetr.bench.loadgen import StreamLatency, stream_latency

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = {
    "50.00": "p50_ms",
    "90.00": "p90_ms",
    "95.00": "p95_ms",
    "97.00": "p97_ms",
    "99.00": "p99_ms",
    "99.90": "p999_ms",
}


def test_percentiles_by_hand() -> None:
    samples_ns = [ms * 1_000_000 for ms in range(1000, 0, -1)]
    wanted = (1000, 500.5, 1, 501, 901, 951, 971, 991, 1000, 1000)
    assert astuple(stream_latency(samples_ns)) == wanted


def test_one_sample_is_every_percentile() -> None:
    assert stream_latency([1_500_000]) == StreamLatency(1, *[1.5] * 9)


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="no latency was measured"):
        stream_latency([])


def test_loadgen_finds_the_same_on_its_own_trace(tmp_path: Path) -> None:
    reason = "mlcommons-loadgen is not installed (pip install mlcommons-loadgen)"
    loadgen: Any = pytest.importorskip("mlperf_loadgen", reason=reason)

    def answer(samples: list[Any]) -> None:
        for sample in samples:
            time.sleep(sample.index * 1e-4)
            done = loadgen.QuerySampleResponse(sample.id, 0, 0)
            loadgen.QuerySamplesComplete([done])

    settings, logged = loadgen.TestSettings(), loadgen.LogSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = 457
    settings.min_duration_ms = 0
    logged.enable_trace = True
    logged.log_output.outdir = str(tmp_path)
    logged.log_output.copy_summary_to_stdout = False
    system = loadgen.ConstructSUT(answer, lambda: None)
    samples = loadgen.ConstructQSL(16, 16, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(system, samples, settings, logged)
    loadgen.DestroyQSL(samples)
    loadgen.DestroySUT(system)

    logged_trace = (tmp_path / "mlperf_log_trace.json").read_text()  # not always valid JSON
    trace = [int(ns) for ns in re.findall(r'"complete_ns":([0-9]+)', logged_trace)]
    found = stream_latency(trace)
    assert found.samples == 457
    summary = (tmp_path / "mlperf_log_summary.txt").read_text()
    theirs = dict(
        re.findall(r"^([0-9.]+) percentile latency \(ns\) *: ([0-9]+)$", summary, re.MULTILINE)
    )
    assert theirs.keys() == FIELDS.keys()
    for share, field in FIELDS.items():
        assert getattr(found, field) == pytest.approx(int(theirs[share]) / 1e6, rel=0.01)
