"""The order of a run: which proxy is measured when, and what happens when one fails.

Rounds are interleaved: each round measures every proxy, each time in another order, so that a drift
of the machine falls on all of them. Each proxy runs alone, started anew for every round. A proxy that
cannot be had or does not start is left out with the reason; the others go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.figures import cost, cutover, latency, memory, resilience, streams
from bench.lab import Lab, Upstreams
from bench.processes import BenchError, StartError
from bench.proxies import GATEWAY, Proxy
from bench.results import DIRECT, Results
from bench.settings import Settings


@dataclass(slots=True)
class Run:
    """One run over the chosen proxies. `tell` is given a line for whoever watches."""

    lab: Lab
    proxies: Sequence[Proxy]
    settings: Settings
    tell: Callable[[str], None]
    results: Results = field(default_factory=Results)

    def everything(self) -> Results:
        """Measure all figures."""
        with self.lab.fixed_upstreams() as upstreams:
            for number in range(self.settings.rounds):
                self._fixed_round(number, upstreams)
        with self.lab.stamping_upstreams() as upstreams:
            for number in range(self.settings.rounds):
                self._stream_round(number, upstreams)
            if GATEWAY in self.proxies and GATEWAY.name not in self.results.skipped:
                self._gateway(upstreams)
        return self.results

    def _fixed_round(self, number: int, upstreams: Upstreams) -> None:
        """Cost, latency and bodies."""
        self._tell(number, "direct", "requests")
        with self.lab.run(None, upstreams) as running:
            direct = latency.measure(running, self.settings)
            cost.measure_requests(running, DIRECT, self.settings, self.results)
        latency.add_direct(direct, self.results)
        for proxy in self._order(number):
            self._tell(number, proxy.label, "requests, bodies")
            with self._reporting(proxy), self.lab.run(proxy, upstreams) as running:
                cost.measure_requests(running, proxy.name, self.settings, self.results)
                latency.add(proxy.name, latency.measure(running, self.settings), direct, self.results)
                cost.measure_bodies(running, proxy.name, self.settings, self.results)

    def _stream_round(self, number: int, upstreams: Upstreams) -> None:
        """Memory, then events on a fresh process."""
        self._tell(number, "direct", "streams")
        with self.lab.run(None, upstreams) as running:
            direct = streams.measure(running, self.settings)
        streams.add_direct(direct, self.results)
        for proxy in self._order(number):
            self._tell(number, proxy.label, "memory, streams")
            with self._reporting(proxy), self.lab.run(proxy, upstreams) as running:
                memory.measure(running, proxy.name, self.settings, self.results)
            with self._reporting(proxy), self.lab.run(proxy, upstreams) as running:
                streams.add(proxy.name, streams.measure(running, self.settings), direct, self.results)

    def _gateway(self, upstreams: Upstreams) -> None:
        """What only the gateway has: cutover, reloads, workers that die."""
        for title, figure in (
            ("SIGUSR1", cutover.measure),
            ("reloads", resilience.measure_reloads),
            ("kill -9", resilience.measure_kills),
        ):
            self.tell(f"{GATEWAY.label}: {title}")
            with self._reporting(GATEWAY):
                figure(self.lab, upstreams, self.settings, self.results)

    def _order(self, number: int) -> list[Proxy]:
        here = [proxy for proxy in self.proxies if proxy.name not in self.results.skipped]
        turn = number % len(here) if here else 0
        return here[turn:] + here[:turn]

    @contextlib.contextmanager
    def _reporting(self, proxy: Proxy) -> Iterator[None]:
        """Leave out a proxy that does not start; remark on a figure that could not be taken."""
        try:
            yield
        except StartError as error:
            self.results.skipped[proxy.name] = str(error)
            self.tell(f"{proxy.label} is left out: {error}")
        except BenchError as error:
            self.results.remark(f"{proxy.name}: {error}")
            self.tell(f"{proxy.label}: {error}")

    def _tell(self, number: int, label: str, what: str) -> None:
        self.tell(f"round {number + 1} of {self.settings.rounds}: {label}: {what}")
