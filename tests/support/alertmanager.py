"""A real Alertmanager for tests, where the machine has one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.polling import eventually
from tests.support.processes import end_at_once, free_port
from tests.support.programs import need


@dataclass
class Alertmanager:
    """One that runs."""

    url: str

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that stand, as its API has them."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true", timeout=5) as answer:
            return list(json.loads(answer.read()))

    def fire(self, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """As Prometheus would."""
        body = json.dumps([{"labels": labels, "annotations": annotations}]).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", body, headers)
        with urllib.request.urlopen(request, timeout=5):
            pass

    def notifications(self) -> int:
        """How many messages it has sent to its webhook, repetitions included."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        name = 'alertmanager_notifications_total{integration="webhook"}'
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))


@contextlib.contextmanager
def alertmanager(folder: Path, webhook: str = "http://127.0.0.1:1/") -> Iterator[Alertmanager]:
    """An Alertmanager that tells `webhook` of everything, at once, and again every second."""
    waits = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1s"}
    receiver = {"name": "gateway", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
    with configured(folder, {"route": {"receiver": "gateway", **waits}, "receivers": [receiver]}) as running:
        yield running


@contextlib.contextmanager
def configured(folder: Path, document: Mapping[str, Any]) -> Iterator[Alertmanager]:
    """An Alertmanager with this config; skips the test where there is none."""
    config = folder / "alertmanager.json"
    config.write_text(json.dumps(document))
    port = free_port()
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                need("prometheus-alertmanager"),
                f"--config.file={config}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    running = Alertmanager(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, (folder / "alertmanager.log").read_text()
        with contextlib.suppress(OSError):
            return running.alerts() == []
        return False

    try:
        eventually("Alertmanager answers", answers)
        yield running
    finally:
        end_at_once(process)
