"""A metrics gate on live traffic: from requests over real workers to a verdict, and past the gate."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.exits import Exit
from gateway.processes.directory import Role
from tests.faults.operating import metric, status
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load
from tests.support.raw import Upstream, answering

pytestmark = pytest.mark.process

REPORT = b"X-Gateway-Metric: accuracy=0.97, cost_per_request=0.001, accuracy=much"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + REPORT + b"\r\n\r\nok"
GATE = "canary.limited_production.metrics_threshold"
DEPLOYMENT: dict[str, Any] = {
    "initial_phase": "canary",
    "phases": {"canary": {"user_percentage": 50}, "limited_production": {"user_percentage": 60}},
    "gates": {
        "canary -> limited_production": [
            {
                "type": "metrics_threshold",
                "thresholds": {
                    "error_rate": "< 0.1",
                    "performance_degradation": "< 100",
                    "response_time": "< 30s",
                    "accuracy": "> 0.8",
                    "cost_per_request": "< 0.01",
                },
                "window": "3s",
                "minimum_samples": 100,
            }
        ]
    },
    "monitoring": {"interval": "500ms", "window": "60s"},
}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Two workers in front of pipelines that report what their answers are worth."""
    upstreams = {name: Upstream(answering(ANSWER), name=name) for name in ("traditional", "dspy")}
    ports = {name: upstream.port for name, upstream in upstreams.items()}
    made = Gateway(tmp_path, ports, workers=2, extra={"deployment": DEPLOYMENT})
    yield made
    made.close()
    for upstream in upstreams.values():
        upstream.close()


def only_gate(gateway: Gateway) -> dict[str, Any]:
    """The gate as the status shows it."""
    (found,) = status(gateway)["gates"]
    return dict(found)


def advance(gateway: Gateway) -> int:
    """What the command ends with."""
    return gateway.run("advance", "--admin", f"http://127.0.0.1:{gateway.admin_port}").returncode


def test_a_metrics_gate_passes_on_what_real_requests_showed(gateway: Gateway) -> None:
    """Held before, passed after, with every metric found; a control process that dies changes nothing."""
    gateway.start()
    assert advance(gateway) == Exit.GATE_NOT_PASSED
    with Load(gateway, users=16, pause=0.01) as load:
        load.more(200)
        (old,) = gateway.pids(Role.CONTROL)
        os.kill(old, signal.SIGKILL)
        eventually("another control process", lambda: gateway.pids(Role.CONTROL) not in ([], [old]))
        load.more(400)
        eventually("an answer of it", lambda: _answers(gateway))
        gate = eventually(
            "the gate passes",
            lambda: found if (found := only_gate(gateway))["verdict"] == "pass" else None,
            60.0,
            interval=0.2,
        )
    values = {finding["metric"]: finding["value"] for finding in gate["findings"]}
    assert values["error_rate"] == 0
    assert values["accuracy"] == pytest.approx(0.97, abs=0.01)
    assert values["cost_per_request"] == pytest.approx(0.001)
    assert 0 < values["response_time"] < 30
    assert advance(gateway) == Exit.DONE
    assert status(gateway)["phase"] == "limited_production"
    assert metric(gateway, "gateway_reported_values_refused_total") >= 600
    assert metric(gateway, "gateway_records_dropped_total") == 0


def _answers(gateway: Gateway) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin_port}/api/v1/status") as answer:
            return bool(json.load(answer))
    except OSError:
        return False
