"""The condition of the upstreams: what workers report of endpoints and breakers, and what health checks
found.

A view over parts that others update; it holds nothing. If no worker has reported yet, the health checks
count; if nothing is known, an upstream counts as usable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.control.health import HealthChecks
from gateway.control.ledger import Ledger
from gateway.control.publishing import Publisher
from gateway.model.observation import BreakerReport, BreakerState
from gateway.model.snapshot import Arm, Snapshot, Upstream


class Upstreams:
    """The upstreams of the newest snapshot."""

    def __init__(self, publisher: Publisher, ledger: Ledger, checks: HealthChecks) -> None:
        self._publisher = publisher
        self._ledger = ledger
        self._checks = checks

    def __repr__(self) -> str:
        return f"<Upstreams {[upstream.name for upstream in self._publisher.current.upstreams]}>"

    # --- what follows from it -----------------------------------------------------------------------

    def available(self, upstream: Upstream) -> bool:
        """True if some worker sends it requests: it has a usable endpoint and the breaker is no obstacle."""
        breakers = self._breakers(upstream.name)
        if breakers and not any(breaker.admits for breaker in breakers):
            return False
        return any(self._usable(upstream.name, endpoint) for endpoint in upstream.endpoints)

    def treatment_healthy(self) -> bool:
        """True if every upstream that serves treatment is available."""
        return all(self.available(upstream) for upstream in self._serving(Arm.TREATMENT))

    def treatment_answers(self) -> bool:
        """True if an endpoint of treatment passed the newest health check of its own."""
        return self._checks.passes({upstream.name for upstream in self._serving(Arm.TREATMENT)})

    def control_healthy(self) -> bool:
        """True if every upstream that serves control has a usable endpoint."""
        return not self.ailing_control()

    def ailing_control(self) -> tuple[str, ...]:
        """The upstreams that serve control and have no usable endpoint, by name."""
        return tuple(
            upstream.name
            for upstream in self._serving(Arm.CONTROL)
            if not any(self._usable(upstream.name, endpoint) for endpoint in upstream.endpoints)
        )

    # --- what is shown ------------------------------------------------------------------------------

    def breaker_states(self) -> Mapping[str, BreakerState]:
        """Each treatment upstream's circuit breaker, as the worst-off worker has it."""
        return {name: breaker.state for name, breaker in self._worst_breakers().items()}

    def document(self) -> dict[str, Any]:
        """Every upstream for `status`, by name. `breaker` is None for one that serves no treatment."""
        snapshot, worst = self._publisher.current, self._worst_breakers()
        return {
            upstream.name: {
                "arms": sorted(arm.label for arm in Arm if index in _serving(snapshot, arm)),
                "available": self.available(upstream),
                "breaker": _breaker(worst.get(upstream.name)),
                "endpoints": [self._endpoint(upstream.name, address) for address in upstream.endpoints],
            }
            for index, upstream in enumerate(snapshot.upstreams)
        }

    # --- helpers ------------------------------------------------------------------------------------

    def _serving(self, arm: Arm) -> Iterator[Upstream]:
        snapshot = self._publisher.current
        return (snapshot.upstreams[index] for index in _serving(snapshot, arm))

    def _breakers(self, upstream: str) -> list[BreakerReport]:
        reports = self._ledger.live.values()
        return [breaker for report in reports for breaker in report.breakers if breaker.upstream == upstream]

    def _worst_breakers(self) -> dict[str, BreakerReport]:
        names = (upstream.name for upstream in self._publisher.current.upstreams)
        found = {name: self._breakers(name) for name in names}
        return {
            name: max(breakers, key=lambda breaker: (not breaker.admits, breaker.state, breaker.trips))
            for name, breakers in found.items()
            if breakers
        }

    def _usable(self, upstream: str, endpoint: str) -> bool:
        reported = [healthy for healthy, _ in self._reported(upstream, endpoint)]
        return any(reported) if reported else self._checks.health.get((upstream, endpoint), True)

    def _reported(self, upstream: str, endpoint: str) -> list[tuple[bool, int]]:
        """What each worker says of an endpoint: does it use it, and how many requests are open there."""
        return [
            (entry.healthy, entry.inflight)
            for report in self._ledger.live.values()
            for entry in report.endpoints
            if (entry.upstream, entry.endpoint) == (upstream, endpoint)
        ]

    def _endpoint(self, upstream: str, endpoint: str) -> dict[str, Any]:
        return {
            "endpoint": endpoint,
            "usable": self._usable(upstream, endpoint),
            "check": self._checks.health.get((upstream, endpoint)),
            "check_error": self._checks.failure(upstream, endpoint),
            "inflight": sum(inflight for _, inflight in self._reported(upstream, endpoint)),
        }


def _serving(snapshot: Snapshot, arm: Arm) -> Collection[int]:
    """The upstreams that serve an arm on any route, as indices."""
    if arm is Arm.CONTROL:
        return {route.control for route in snapshot.routes}
    written = {route.treatment for route in snapshot.routes}
    return written | {
        group.upstream
        for route in snapshot.routes
        if route.experiment is not None
        for group in route.experiment.groups
        if group.arm is Arm.TREATMENT
    }


def _breaker(report: BreakerReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    closed = report.state is BreakerState.CLOSED
    return {"state": report.state.label, "cause": None if closed else report.cause, "trips": report.trips}
