"""Metrics for Prometheus over HTTP, and the health check that reads them back."""

from __future__ import annotations

import http.client
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgedetr.runtime.errors import GateError, StuckError, UsageError
from edgedetr.runtime.health.monitor import SEVERITY, Health
from edgedetr.runtime.health.page_server import page_served
from edgedetr.runtime.inference.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from edgedetr.runtime.health.monitor import HealthMonitor, HealthReport

STATE = "edgedetr_health"
"""Name of the metric of the state: 0 OK, 1 degraded, 2 failed."""
TIME_LIMIT_S = 2.0
"""How long the check waits for the whole page, in seconds."""
MOST_BYTES = 1 << 20
"""Largest page that the check reads."""


@contextmanager
def served(monitor: HealthMonitor, port: int, address: str = "127.0.0.1") -> Iterator[int]:
    """Serve metrics to Prometheus on a port while the block runs.

    Args:
        monitor: Source of the figures.
        port: TCP port; 0 takes a free one.
        address: Interface to listen on; the machine itself alone by default.

    Yields:
        The port.

    Raises:
        UsageError: If prometheus-client is not installed, or the port is not available.
    """
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError as error:
        raise UsageError(
            "metrics need prometheus-client: pip install edgedetr-runtime[metrics]"
        ) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(monitor))
    with ExitStack() as stack:
        page = partial(generate_latest, registry)
        try:
            found = stack.enter_context(page_served(page, CONTENT_TYPE_LATEST, port, address))
        except OSError as error:
            raise UsageError(
                f"port {port} of {address} is not available: {error.strerror}"
            ) from error
        yield found


def check(url: str) -> Health:
    """Return the health of a running detector.

    Args:
        url: Of its metrics, for example ``http://127.0.0.1:9464/metrics``.

    Raises:
        UsageError: If the URL is not valid.
        GateError: If it does not respond, does not serve these metrics, or the state is `FAILED`.
    """
    watchdog = Watchdog(TIME_LIMIT_S)
    try:
        page = watchdog.run(partial(_page_at, url))
    except StuckError as error:
        raise GateError(f"{url} does not respond within {TIME_LIMIT_S:g} s") from error
    finally:
        watchdog.close()
    found = [line.split()[-1] for line in page.splitlines() if line.startswith(f"{STATE} ")]
    if len(found) != 1 or found[0] not in {f"{state:.1f}" for state in Health}:
        raise GateError(f"{url} does not serve {STATE}; does the port belong to another program?")
    state = Health(int(float(found[0])))
    if state is Health.FAILED:
        raise GateError(f"{url} reports that the detector has failed")
    return state


def _page_at(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("wanted http://HOST:PORT/")  # noqa: TRY301
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIME_LIMIT_S)
        connection.request("GET", parts.path or "/")
        page = connection.getresponse().read(MOST_BYTES).decode("utf-8", "replace")
        connection.close()
    except (http.client.InvalidURL, ValueError) as error:
        raise UsageError(
            f"{url!r} is not a URL; wanted one such as http://127.0.0.1:9464/metrics"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise GateError(f"{url} does not respond: {error}; is edgedetr run running?") from error
    return page


class _Collector:
    """Turns the monitor's report into metrics for each scrape."""

    def __init__(self, monitor: HealthMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        return _metrics(self._monitor.report())


def _metrics(report: HealthReport) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily(
        STATE, "State of the detector: 0 OK, 1 degraded, 2 failed", value=report.state
    )
    yield CounterMetricFamily("edgedetr_frames", "Frames since the start", value=report.frames)
    yield GaugeMetricFamily(
        "edgedetr_latency_ms",
        "Mean latency of the detector over the window, in milliseconds",
        value=report.latency_ms,
    )
    yield GaugeMetricFamily(
        "edgedetr_late_share",
        "Share of the window's frames that were late or dropped",
        value=report.late_share,
    )
    if report.age_ms is not None:
        yield GaugeMetricFamily(
            "edgedetr_age_ms",
            "Mean age of a frame once it is detected in, over the window, in milliseconds",
            value=report.age_ms,
        )
    if report.clipped_share is not None:
        yield GaugeMetricFamily(
            "edgedetr_clipped_share",
            "Share of INT8 activations clipped in the last sampled frame",
            value=report.clipped_share,
        )
    alarms = GaugeMetricFamily("edgedetr_alarm", "1 while the alarm is up", labels=["alarm"])
    names = [*SEVERITY, *(f"drift_{name}" for name in report.drifts)]
    for name in names:
        alarms.add_metric([name], name in report.alarms)
    yield alarms
    drifts = GaugeMetricFamily(
        "edgedetr_drift", "Distance of a figure from calibration", labels=["figure"]
    )
    for name, value in report.drifts.items():
        drifts.add_metric([name], value)
    yield drifts
