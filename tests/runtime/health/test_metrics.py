"""What Prometheus reads, and the check that a container runs."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading

import numpy as np
import pytest
from typing_extensions import override

from edgedetr.runtime.errors import GateError, UsageError
from edgedetr.runtime.health import metrics
from edgedetr.runtime.health.metrics import check, served
from edgedetr.runtime.health.monitor import Health, HealthMonitor
from edgedetr.runtime.types import Detections

pytest.importorskip("prometheus_client")

NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def page_of(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return page


def test_page_tells_state_alarms_and_counts():
    monitor = HealthMonitor(1)
    with served(monitor, 0) as port:
        assert check(f"http://127.0.0.1:{port}/metrics") == Health.OK
        for _ in range(5):
            monitor.observe(np.zeros((20, 20, 3), np.uint8), NOTHING, latency_ms=4, age_ms=9)
        page = page_of(port)
        with pytest.raises(GateError, match="has failed"):
            check(f"http://127.0.0.1:{port}/metrics")
    assert "edgedetr_health 2.0" in page
    assert "edgedetr_frames_total 5.0" in page
    assert "edgedetr_latency_ms 4.0" in page
    assert "edgedetr_age_ms 9.0" in page
    assert 'edgedetr_alarm{alarm="black"} 1.0' in page
    assert 'edgedetr_alarm{alarm="backend"} 0.0' in page


def test_port_is_free_again_and_taken_ports_are_told():
    with served(HealthMonitor(1), 0) as port, pytest.raises(UsageError, match="is not available"):
        served(HealthMonitor(1), port).__enter__()
    with served(HealthMonitor(1), port):
        assert check(f"http://127.0.0.1:{port}") == Health.OK
    with pytest.raises(GateError, match="does not respond"):
        check(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("address", [f"{'a' * 70}.x", "a..b", "256.1.1.1"])
def test_an_address_that_is_none_is_one_line(address):
    with (
        pytest.raises(UsageError, match=r"port 0 of .* is not available: ") as error,
        served(HealthMonitor(1), 0, address),
    ):
        pass
    assert "\n" not in str(error.value)


def test_other_programs_and_wrong_addresses_are_told():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        @override
        def log_message(self, *arguments):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(GateError, match="does not serve edgedetr_health"):
            check(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()
    for wrong in ("ftp://x/", "metrics", "https://127.0.0.1/", "http://[::1/", "http://a:99999/"):
        with pytest.raises(UsageError, match="is not a URL"):
            check(wrong)


def test_the_check_has_an_end_however_slowly_it_is_answered(monkeypatch):
    monkeypatch.setattr(metrics, "TIME_LIMIT_S", 0.2)
    done = threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection:
            while not done.wait(0.05):
                connection.send(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        with pytest.raises(GateError, match=r"does not respond within 0\.2 s"):
            check(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        done.set()
        thread.join()
