"""What a container's health check sees of a running detector."""

import numpy as np
import pytest

from edgedetr.runtime.health.metrics import served
from edgedetr.runtime.health.monitor import HealthMonitor
from edgedetr.runtime.types import Detections

pytest.importorskip("prometheus_client")

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def test_the_status_is_1_once_a_detector_has_failed_or_is_gone(edgedetr):
    monitor = HealthMonitor(1)
    with served(monitor, 0) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        assert edgedetr("health", url) == (0, "OK\n", "")
        for _ in range(5):  # black frames
            monitor.observe(np.zeros((20, 20, 3), np.uint8), NOTHING, latency_ms=4, age_ms=9)
        status, out, error = edgedetr("health", url)
        assert (status, out, "has failed" in error) == (1, "", True)
    status, out, error = edgedetr("health", url)
    assert (status, out, "does not respond" in error) == (1, "", True)
    assert error.count("\n") == 1


def test_what_is_no_url_is_a_wrong_request(edgedetr):
    status, _, error = edgedetr("health", "localhost")
    assert (status, "is not a URL" in error) == (2, True)
