"""What an operator does to a running gateway, and sees of it: configs, status, metrics."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from gateway.processes.directory import Role
from tests.support.processes import PATIENCE, Gateway


def deployment(percentage: float) -> dict[str, Any]:
    """A config's `deployment` with this share on treatment."""
    phases = {"canary": {"user_percentage": percentage}}
    return {"initial_phase": "canary", "phases": phases}


def status(gateway: Gateway) -> dict[str, Any]:
    """The status document."""
    url = f"http://127.0.0.1:{gateway.admin_port}/api/v1/status"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return dict(json.load(answer))


def metric(gateway: Gateway, name: str) -> float:
    """The sum over a metric's labels."""
    url = f"http://127.0.0.1:{gateway.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def write(gateway: Gateway, path: Path | None = None, **changes: Any) -> None:
    """Put a config in place as careful writers do."""
    path = path or gateway.directory / "gateway.yaml"
    fresh = path.with_name("gateway.new")
    fresh.write_text(json.dumps(gateway.configuration() | changes))
    fresh.rename(path)


def process_ids(gateway: Gateway) -> list[int]:
    """Main process, control process, workers."""
    return [gateway.pid, *gateway.pids(Role.CONTROL), *gateway.pids(Role.WORKER)]


def snapshots(gateway: Gateway) -> set[int | None]:
    """The snapshot versions that the workers serve by."""
    return {worker["snapshot"] for worker in status(gateway)["workers"]}


def settled(gateway: Gateway) -> set[int | None] | None:
    """The one snapshot that all workers have reported; None while they differ."""
    found = snapshots(gateway)
    return found if len(found) == 1 and None not in found else None
