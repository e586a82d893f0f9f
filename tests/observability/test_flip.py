"""The whole way around: a gateway is scraped, a rule fires, Alertmanager calls, the gateway flips."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability import shipped
from tests.support.alertmanager import Alertmanager, configured
from tests.support.incidents import Fault, Incident
from tests.support.polling import eventually
from tests.support.processes import Gateway
from tests.support.prometheus import prometheus

pytestmark = pytest.mark.process

OFTEN = "1s"
WITHIN = 40.0
"""Seconds from the first failure to control for everybody; most of it is a machine that is busy."""


def test_a_rule_that_fires_rolls_a_gateway_back(
    tmp_path: Path, gateways: Callable[..., Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the files that are shipped, asked more often: treatment fails, and everybody is on control."""
    incident = Incident()
    # Nothing for the gateway to roll back by itself: what happens is Alertmanager's doing.
    no_limits = {"error_rate": None, "performance_degradation": None}
    deployment = {
        "initial_phase": "limited_production",
        "phases": {"limited_production": {"user_percentage": 50, "rollback_threshold": no_limits}},
        "rollback": {"automatic_triggers": []},
    }
    with incident.running():
        gateway = gateways(upstreams=incident.ports, extra={"deployment": deployment})
        gateway.start()
        with (
            configured(tmp_path, routing_to(gateway)) as manager,
            prometheus(tmp_path, watching(tmp_path, gateway, manager)) as running,
            incident.users(gateway.port, 40.0),
        ):
            healthy = "instance_arm:gateway_error_ratio:rate5m == 0"
            eventually("both arms are seen", lambda: len(running.query(healthy)) == 2, 30.0, interval=0.1)
            incident.begin(incident.dspy, Fault.ERRORS)
            began = time.monotonic()
            eventually("the gateway flips", lambda: engaged(gateway), WITHIN, interval=0.05)
            took = time.monotonic() - began
            assert {gateway.get(user=f"u{number}").arm for number in range(20)} == {"control"}
    with capsys.disabled():
        print(f"\nfrom the first failure over rule and webhook to control: {took:.1f} s")
    latch = gateway.latch()
    assert latch is not None
    assert (latch.kind, latch.operator) == ("rollback", "alertmanager")
    assert latch.reason.startswith("TreatmentFails")


def engaged(gateway: Gateway) -> bool:
    """Whether its latch is, by its own account on disk."""
    latch = gateway.latch()
    return latch is not None and latch.engaged


def routing_to(gateway: Gateway) -> dict[str, Any]:
    """Alertmanager's config as it is shipped, for this gateway, without waits."""
    document = dict(shipped.read("alertmanager", "alertmanager.yml"))
    for route in (document["route"], *document["route"]["routes"]):
        route |= {
            name: "0s" if name == "group_wait" else OFTEN for name in route if name.startswith("group_")
        }
        route["group_by"] = ["..."]
    (hook,) = (one for receiver in document["receivers"] for one in receiver.get("webhook_configs", ()))
    hook["url"] = hook["url"].replace("127.0.0.1:9900", f"127.0.0.1:{gateway.admin_port}")
    return document


def watching(folder: Path, gateway: Gateway, manager: Alertmanager) -> dict[str, Any]:
    """Prometheus' config as it is shipped, for these two, asking once a second."""
    document = dict(shipped.read("prometheus", "prometheus.yml"))
    document["global"] = {"scrape_interval": OFTEN, "evaluation_interval": OFTEN}
    document["rule_files"] = [str(hurried(path, folder)) for path in shipped.RULES]
    document["alerting"]["alertmanagers"] = [at(manager.url.removeprefix("http://"))]
    document["scrape_configs"] = [{"job_name": "gateway", **at(f"127.0.0.1:{gateway.admin_port}")}]
    return document


def at(target: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [target]}]}


def hurried(path: Path, folder: Path) -> Path:
    """A copy of rules that fire after two seconds rather than minutes."""
    document = yaml.safe_load(path.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule |= {"for": "2s"} if "for" in rule else {}
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(document))
    return copy
