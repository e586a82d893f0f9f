"""What the running gateway reports: its status and metrics, and what changed between two looks.

`Admin` reads over HTTP; the rest is pure. A missing key means "not known", so the view works
with a gateway that reports more or less.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

_PATIENCE = ClientTimeout(total=2.0)


@dataclass(frozen=True, slots=True)
class Latch:
    """The latch as the status shows it."""

    engaged: bool = False
    kind: str = ""
    reason: str = ""
    operator: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The part of `/api/v1/status` that the demo shows. `user_percentage` is out of 100."""

    phase: str
    user_percentage: float
    latch: Latch
    workers: tuple[int, ...]
    """Process ids."""
    worker_restarts: int
    control_restarts: int
    config_digest: str
    config_error: str
    gates: tuple[tuple[str, str], ...] = ()
    """(type, verdict) of the gates before the next phase, in their order."""
    holds: tuple[str, ...] = ()
    """Why nothing advances, although the gates may pass."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The part of `/metrics` that the demo shows. Seconds; NaN where there is nothing yet."""

    overhead_p50: float = math.nan
    overhead_p99: float = math.nan
    unhealthy_endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the gateway. `status` None: its admin address did not answer."""

    status: Status | None
    metrics: Metrics


NOTHING_READ = Reading(None, Metrics())


class Severity(enum.Enum):
    """How much a change matters to whoever watches."""

    INFO = "info"
    GOOD = "good"
    BAD = "bad"
    TOLD = "told"
    """Not a change but the story's own words."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened, in words."""

    text: str
    severity: Severity = Severity.INFO


class Admin:
    """The gateway's admin API: what it shows, and a few things that an operator does."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self._url = url
        self._session = session
        self._metrics = Metrics()

    async def read_status(self) -> Reading:
        """The status now, with the metrics of the last `read`."""
        return Reading(await self._status(), self._metrics)

    async def read(self) -> Reading:
        """Status and metrics now; what does not answer is absent or stays as it was."""
        try:
            async with self._session.get(f"{self._url}/metrics", timeout=_PATIENCE) as response:
                response.raise_for_status()
                self._metrics = parse_metrics(await response.text())
        except (ClientError, OSError, TimeoutError, ValueError):
            pass
        return await self.read_status()

    async def write(self, path: str, reason: str) -> bool:
        """Do what is at a path under `/api/v1`; False if the gateway did not do it."""
        body = {"operator": "demo", "reason": reason}
        url = f"{self._url}/api/v1/{path}"
        try:
            async with self._session.post(url, json=body, timeout=_PATIENCE) as response:
                return response.ok
        except (ClientError, OSError, TimeoutError):
            return False

    async def _status(self) -> Status | None:
        try:
            async with self._session.get(f"{self._url}/api/v1/status", timeout=_PATIENCE) as response:
                response.raise_for_status()
                return parse_status(await response.json())
        except (ClientError, OSError, TimeoutError, ValueError):
            return None


def parse_status(document: Mapping[str, Any]) -> Status:
    """The demo's part of the status document."""
    latch = document.get("latch") or {}
    config = document.get("config") or {}
    gateway = document.get("gateway") or {}
    return Status(
        phase=str(document.get("phase") or "?"),
        user_percentage=float(document.get("user_percentage") or 0.0),
        latch=Latch(
            engaged=bool(latch.get("engaged")),
            kind=str(latch.get("kind") or ""),
            reason=str(latch.get("reason") or ""),
            operator=str(latch.get("operator") or ""),
        ),
        workers=tuple(int(worker["pid"]) for worker in document.get("workers") or ()),
        worker_restarts=int(gateway.get("worker_restarts") or 0),
        control_restarts=int(gateway.get("control_restarts") or 0),
        config_digest=str(config.get("digest") or ""),
        config_error=str(config.get("error") or ""),
        gates=tuple((str(gate["type"]), str(gate["verdict"])) for gate in document.get("gates") or ()),
        holds=tuple(str(hold["kind"]) for hold in document.get("holds") or ()),
    )


def parse_metrics(exposition: str) -> Metrics:
    """The demo's part of a Prometheus text exposition. Raises ValueError if it is none."""
    overhead: dict[float, float] = {}
    unhealthy: list[str] = []
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "gateway_overhead_seconds_bucket":
                bound = float(sample.labels["le"])
                overhead[bound] = overhead.get(bound, 0.0) + sample.value
            if sample.name == "gateway_upstream_endpoint_healthy" and sample.value == 0:
                unhealthy.append(sample.labels["upstream"])
    return Metrics(
        overhead_p50=histogram_quantile(overhead, 0.5),
        overhead_p99=histogram_quantile(overhead, 0.99),
        unhealthy_endpoints=tuple(sorted(unhealthy)),
    )


def histogram_quantile(cumulative: Mapping[float, float], q: float) -> float:
    """The quantile of cumulative buckets by upper bound, interpolated in the bucket as Prometheus does."""
    bounds = sorted(cumulative)
    if not bounds or cumulative[bounds[-1]] == 0:
        return math.nan
    rank = q * cumulative[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / max(1.0, cumulative[bound] - below)
        lower, below = bound, cumulative[bound]
    return lower


def changes(before: Reading, after: Reading) -> Iterator[Change]:
    """What happened between two readings, in words."""
    if before.status is not None and after.status is None:
        yield Change("control process does not answer; traffic goes on", Severity.BAD)
    if before.status is None and after.status is not None:
        yield Change("control process answers", Severity.GOOD)
    if before.status is not None and after.status is not None:
        yield from _status_changes(before.status, after.status)
    for upstream in set(after.metrics.unhealthy_endpoints) - set(before.metrics.unhealthy_endpoints):
        yield Change(f"{upstream} has an unhealthy endpoint", Severity.BAD)
    for upstream in set(before.metrics.unhealthy_endpoints) - set(after.metrics.unhealthy_endpoints):
        yield Change(f"{upstream} is healthy again", Severity.GOOD)


def split_changed(before: Reading, after: Reading) -> bool:
    """True if users may be served by another arm than before."""
    if before.status is None or after.status is None:
        return False
    old, new = before.status, after.status
    return (old.latch.engaged, old.phase, old.user_percentage, old.config_digest) != (
        new.latch.engaged,
        new.phase,
        new.user_percentage,
        new.config_digest,
    )


def _status_changes(before: Status, after: Status) -> Iterator[Change]:
    if after.latch.engaged and not before.latch.engaged:
        why = f": {after.latch.reason}" if after.latch.reason else ""
        yield Change(f"latch engaged ({after.latch.kind or 'unknown'}){why}", Severity.BAD)
    if before.latch.engaged and not after.latch.engaged:
        yield Change("latch released", Severity.GOOD)
    if (restarts := after.worker_restarts - before.worker_restarts) > 0:
        yield Change(f"{restarts} worker{'s' * (restarts > 1)} replaced", Severity.BAD)
    if after.control_restarts > before.control_restarts:
        yield Change("control process replaced", Severity.BAD)
    if after.phase != before.phase:
        yield Change(f"phase {before.phase} -> {after.phase}")
    if after.user_percentage != before.user_percentage:
        yield Change(f"users enrolled {before.user_percentage:g} % -> {after.user_percentage:g} %")
    if after.config_digest != before.config_digest:
        yield Change("config reloaded", Severity.GOOD)
    if after.config_error and after.config_error != before.config_error:
        yield Change(f"config refused: {after.config_error}", Severity.BAD)
