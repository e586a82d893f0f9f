"""A gateway that had an eventful life, scraped by a Prometheus with the rules that are shipped."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.observability.shipped import RULES
from tests.support.incidents import Incident
from tests.support.polling import eventually
from tests.support.processes import Gateway, free_port
from tests.support.prometheus import Prometheus, prometheus

DEPLOYMENT: dict[str, Any] = {
    "initial_phase": "canary",
    "phases": {
        "staging": {"user_percentage": 50},
        "canary": {"user_percentage": 50, "duration": "100h"},
        "limited_production": {"user_percentage": 50, "duration": "100h"},
    },
    "experiments": {
        "dspy_vs_traditional": {
            "groups": {"control": {"weight": 50}, "treatment": {"weight": 50}},
            "success_metrics": ["response_time"],
        }
    },
    "rollback": {"automatic_triggers": []},
}


@dataclass(frozen=True)
class Scraped:
    """The gateway, and who scrapes it."""

    gateway: Gateway
    prometheus: Prometheus

    def metrics(self) -> str:
        """What is scraped."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.gateway.admin_port}/metrics", timeout=10
        ) as body:
            return str(body.read().decode())


@pytest.fixture(scope="package")  # its traffic must not outlive these tests
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Under traffic, with failures, failovers, a transition, a rollback, a release and a reload behind it."""
    folder = tmp_path_factory.mktemp("scraped")
    incident = Incident()
    with incident.running():
        gateway = Gateway(folder, {**incident.ports, "gone": free_port()}, extra=extra())
        try:
            gateway.start()
            with prometheus(folder, scraping(gateway)) as running, incident.users(gateway.port, 20.0):
                scene = Scraped(gateway, running)
                happen(scene)
                yield scene
        finally:
            gateway.close()


def extra() -> dict[str, Any]:
    """What its config has beyond the usual: a route whose treatment is gone, an experiment, a channel."""
    both = {"control": "traditional", "treatment": "dspy", "experiment": "dspy_vs_traditional"}
    gone = {"control": "traditional", "treatment": "gone"}
    return {
        "deployment": DEPLOYMENT,
        "routes": [
            {"name": "broken", "match": {"path_prefix": "/broken"}, **gone},
            {"name": "default", **both},
        ],
        "notifications": {"channels": {"ops": {"type": "webhook", "url": "http://127.0.0.1:1/"}}},
    }


def scraping(gateway: Gateway) -> dict[str, Any]:
    """Prometheus' config: everything often."""
    target = f"127.0.0.1:{gateway.admin_port}"
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in RULES],
        "scrape_configs": [{"job_name": "gateway", "static_configs": [{"targets": [target]}]}],
    }


def happen(scene: Scraped) -> None:
    """Let everything happen once that leaves a trace in the metrics."""
    gateway = scene.gateway
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    eventually("it is scraped", lambda: scene.prometheus.query("gateway_requests_total"), 30.0, interval=0.2)
    failed = 'gateway_failovers_total{route="broken"}'
    for users in (range(40), range(40, 80)):
        for number in users:
            gateway.get("/broken", f"user-{number}")
        # A rate needs two samples: what a counter was born with is no increase.
        eventually(failed, lambda: scene.prometheus.query(failed), 30.0, interval=0.2)
    for command, latched in (("advance", 0), ("rollback", 1), ("release", 0)):
        force = ("--force",) if command == "advance" else ()
        done = gateway.run(command, *force, "--admin", admin, "--reason", "a test", timeout=30.0)
        assert done.returncode == 0, done.stderr
        # A latch that is engaged and released between two scrapes leaves no trace.
        seen = f"gateway_cutover_engaged == {latched}"
        eventually(seen, lambda seen=seen: scene.prometheus.query(seen), 30.0, interval=0.1)  # type: ignore[misc]
    config = {**gateway.configuration(), "access_log": {"sample": 0.001}}
    (gateway.directory / "gateway.yaml").write_text(json.dumps(config))
