"""A gateway with operators, gates and a ladder, and its admin API as an operator's script uses it."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import Gateway

TOKENS = {"ann": "secret-of-ann", "bob": "secret-of-bob"}
PHASE = "canary"
GATE = "canary.limited_production.manual_approval"
DEPLOYMENT: dict[str, Any] = {
    "initial_phase": PHASE,
    "ladder": ["staging", PHASE, "limited_production", "full_production"],
    "phases": {PHASE: {"user_percentage": 50}, "limited_production": {"user_percentage": 60}},
    "gates": {
        "canary -> limited_production": [
            {"type": "time_based", "minimum": "100h"},
            {"type": "manual_approval"},
        ]
    },
    "monitoring": {"window": "30s"},
}
"""A ladder whose gates stay closed unless a person decides."""


@dataclass
class Operated:
    """A real gateway and how to ask it."""

    gateway: Gateway

    @property
    def url(self) -> str:
        """Where the dashboard is."""
        return f"http://127.0.0.1:{self.gateway.admin_port}/"

    def ask(self, method: str, path: str, **body: Any) -> tuple[int, Any]:
        """Status and JSON of an answer of the API."""
        request = urllib.request.Request(f"{self.url}api/v1/{path}", method=method)
        request.add_header("Authorization", f"Bearer {TOKENS['bob']}")
        data = json.dumps(body).encode() if body else None
        try:
            with urllib.request.urlopen(request, data, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def status(self) -> dict[str, Any]:
        """The status document."""
        return dict(self.ask("GET", "status")[1])

    def newest(self) -> dict[str, Any]:
        """The newest event of the history."""
        return dict(self.ask("GET", "history?limit=1")[1][-1])

    def settle(self) -> None:
        """Neither latched nor paused, in the phase with the gates, nothing approved."""
        status = self.status()
        if status["latch"]["engaged"]:
            self.ask("POST", "release", reason="the next test")
        if status["paused"]:
            self.ask("POST", "rollout/resume", reason="the next test")
        phases = DEPLOYMENT["ladder"]
        while self.status()["phase"] != PHASE:
            ahead = phases.index(self.status()["phase"]) < phases.index(PHASE)
            if ahead:
                self.ask("POST", "rollout/advance", reason="the next test", force=True)
            else:
                self.ask("POST", "rollout/rollback", reason="the next test")
                self.ask("POST", "release", reason="the next test")


@contextlib.contextmanager
def operated(folder: Path, upstreams: dict[str, int], **options: Any) -> Iterator[Operated]:
    """Start such a gateway, and end it."""
    for name, secret in TOKENS.items():
        (folder / f"{name}.token").write_text(secret)
    gateway = Gateway(folder, upstreams, extra={"deployment": DEPLOYMENT}, **options)
    admin = {"address": f"127.0.0.1:{gateway.admin_port}", "tokens": {n: f"{n}.token" for n in TOKENS}}
    gateway.extra = {**gateway.extra, "admin": admin}
    gateway.start()
    try:
        yield Operated(gateway)
    finally:
        gateway.close()
