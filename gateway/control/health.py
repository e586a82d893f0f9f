"""Active health checks: which endpoints answer, as seen from the control process.

Every endpoint of an upstream with a health check is requested at its interval. The results are counted
(`Tally`), and the whole map is published when one of its values changes. An endpoint is healthy until a check
fails. The workers decide what follows.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import aiohttp

from gateway import logs
from gateway.link.api import EndpointHealth
from gateway.model.snapshot import HealthCheck, Upstream
from gateway.model.units import format_duration

JITTER = 0.1
"""Share of the interval by which two checks may lie closer or further apart: spreads a fleet's checks."""
_UNIX = "unix:"


class Tally:
    """Consecutive checks of one endpoint, and what they amount to.

    `failure` is why the newest one failed, "" where it passed, None before the first.
    """

    __slots__ = ("_against", "_check", "failure", "healthy")

    def __init__(self, check: HealthCheck, healthy: bool = True) -> None:
        self.healthy = healthy
        self.failure: str | None = None
        self._check = check
        self._against = 0

    def __repr__(self) -> str:
        return f"<Tally healthy={self.healthy} against={self._against}>"

    def count(self, failure: str) -> bool:
        """Take in one check, "" for one that passed; True if it changed `healthy`."""
        self.failure = failure
        passed = not failure
        if passed == self.healthy:
            self._against = 0
            return False
        self._against += 1
        needed = self._check.unhealthy_after if self.healthy else self._check.healthy_after
        if self._against < needed:
            return False
        self.healthy = passed
        self._against = 0
        return True


@dataclass(frozen=True, slots=True)
class _Target:
    upstream: str
    endpoint: str
    check: HealthCheck


class HealthChecks:
    """The checks of the current upstreams; `follow` is given new ones."""

    def __init__(
        self,
        publish: Callable[[EndpointHealth], None],
        known: EndpointHealth,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`known` is what an earlier control process found; `spread` draws from [0, 1)."""
        self._known = known
        self._publish = publish
        self._spread = spread
        self._targets: dict[_Target, Tally] = {}
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<HealthChecks {self.health}>"

    @property
    def health(self) -> EndpointHealth:
        """The whole map of checked endpoints."""
        return {(target.upstream, target.endpoint): tally.healthy for target, tally in self._targets.items()}

    def passes(self, upstreams: Collection[str]) -> bool:
        """True if an endpoint of one of these upstreams passed its newest check."""
        return any(
            target.upstream in upstreams and tally.failure == "" for target, tally in self._targets.items()
        )

    def failure(self, upstream: str, endpoint: str) -> str | None:
        """Why the newest check of an endpoint failed; None where it passed or there is none."""
        for target, tally in self._targets.items():
            if (target.upstream, target.endpoint) == (upstream, endpoint):
                return tally.failure or None
        return None

    def follow(self, upstreams: Iterable[Upstream]) -> None:
        """Check these from now on. An endpoint whose check stays as it was keeps what is known of it."""
        targets = [
            _Target(upstream.name, endpoint, upstream.health_check)
            for upstream in upstreams
            if upstream.health_check is not None
            for endpoint in upstream.endpoints
        ]
        if targets == list(self._targets):
            return
        before = self.health
        self._targets = {target: self._targets.get(target) or self._begin(target) for target in targets}
        if self.health != before:
            self._publish(self.health)
        self._changed.set()

    def _begin(self, target: _Target) -> Tally:
        return Tally(target.check, self._known.get((target.upstream, target.endpoint), True))

    async def run(self) -> None:
        """Check for ever. An unexpected fault in one check ends all of them, for the caller to restart."""
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as group:
                checks = [group.create_task(self._watch(*item)) for item in self._targets.items()]
                await self._changed.wait()
                for check in checks:
                    check.cancel()

    async def _watch(self, target: _Target, tally: Tally) -> None:
        check = target.check
        async with _session(target) as session:
            await asyncio.sleep(self._spread() * min(check.interval, 1.0))
            while True:
                failure = await _failure(session, target)
                if tally.count(failure):
                    place = {"upstream": target.upstream, "endpoint": target.endpoint}
                    if failure:
                        logs.warn("endpoint unhealthy", **place, reason=failure)
                    else:
                        logs.warn("endpoint healthy", **place)
                    self._publish(self.health)
                await asyncio.sleep(check.interval * (1 - JITTER + 2 * JITTER * self._spread()))


def _session(target: _Target) -> aiohttp.ClientSession:
    # A fresh connection each time: what is asked is also whether the endpoint still accepts.
    connector: aiohttp.BaseConnector
    if target.endpoint.startswith(_UNIX):
        connector = aiohttp.UnixConnector(target.endpoint.removeprefix(_UNIX), force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=target.check.timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": "gateway-health-check"},
    )


async def _failure(session: aiohttp.ClientSession, target: _Target) -> str:
    """Why a check of the endpoint failed, in words; "" if it passed."""
    base = "http://localhost" if target.endpoint.startswith(_UNIX) else target.endpoint
    try:
        async with session.get(base + target.check.path, allow_redirects=False) as response:
            return "" if 200 <= response.status < 400 else f"answered {response.status}"
    except TimeoutError:
        return f"no answer within {format_duration(target.check.timeout)}"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        return os.strerror(number) if number else type(error).__name__
