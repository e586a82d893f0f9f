"""The few words that a run has with the gateway's admin interface."""

from __future__ import annotations

import http.client
import json
from typing import Any

from bench.processes import BenchError

PATIENCE_SECONDS = 5.0
RELOADS = 'gateway_config_reloads_total{result="success"}'


def ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> str:
    """Send one request to a port on loopback; anything but success is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{method} {path}: {error!r}") from error
    finally:
        connection.close()
    if answer.status >= 300:
        raise BenchError(f"{method} {path} was answered {answer.status}: {content[:200]}")
    return content


def release(port: int) -> None:
    """Lift the latch."""
    ask(port, "POST", "/api/v1/release", {"operator": "bench", "reason": "next trial"})


def worker_pids(port: int) -> set[int]:
    """Give the process ids of the workers."""
    return {int(worker["pid"]) for worker in json.loads(ask(port, "GET", "/api/v1/status"))["workers"]}


def reloads_done(port: int) -> float:
    """Give how many reloads were applied."""
    for line in ask(port, "GET", "/metrics").splitlines():
        if line.startswith(RELOADS):
            return float(line.rpartition(" ")[2])
    return 0.0
