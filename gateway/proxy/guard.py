"""How the worker's sweep limits the effects of a bad treatment: it drives breakers and ends open streams.

Breakers are told the time and whether there is an emergency; their changes are logged. If the
config limits how long streams may stay open on treatment after a rollback, the guard ends them.

It decides nothing about the rollout. It sees the latch, and does the same for every reason of it.
"""

from __future__ import annotations

from gateway import logs
from gateway.latch import LatchKind, LatchPage
from gateway.model.observation import BreakerState
from gateway.proxy.context import Context


class Guard:
    """Looks after a worker's treatment; `sweep` is called a few times a second."""

    def __init__(self, context: Context, latch: LatchPage) -> None:
        self._context = context
        self._latch = latch
        self._told: dict[str, BreakerState] = {}
        self._engaged_at: float | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<Guard engaged_at={self._engaged_at}>"

    def sweep(self, now: float) -> None:
        """Look once. `now` is monotonic seconds."""
        engaged = self._latch.engaged
        emergency = engaged and self._latch.kind is LatchKind.EMERGENCY
        for pool in self._context.plan.treatment_pools:
            pool.tend_breaker(now, emergency)
            breaker = pool.breaker
            if breaker.state is not self._told.get(pool.upstream.name, BreakerState.CLOSED):
                self._told[pool.upstream.name] = breaker.state
                logs.warn(
                    f"circuit breaker {breaker.state.label}",
                    upstream=pool.upstream.name,
                    cause=breaker.cause,
                    trips=breaker.trips,
                )
        self._end_streams(engaged, now)

    def _end_streams(self, engaged: bool, now: float) -> None:
        """Once per engagement, when its time is over: nothing begins on treatment meanwhile."""
        if not engaged:
            self._engaged_at, self._ended = None, False
            return
        if self._engaged_at is None:
            self._engaged_at = now
        limit = self._context.plan.snapshot.open_streams
        if limit is None or self._ended or now - self._engaged_at < limit:
            return
        self._ended = True
        ended = sum([client.end_treatment() for client in list(self._context.clients)])
        if ended:
            logs.warn("streams open on treatment ended", streams=ended, seconds_after_rollback=limit)
