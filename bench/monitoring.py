"""`python -m bench.monitoring`: what watching costs the control process at 5,000 requests a second.

A real control process with everything on, store and admin API included, in this process; a worker beside
it counts requests that nobody made and hands its reports over as the link does. From the third line on, one
request in a hundred is a stream of minutes: every tick of the last five is open, and changes. The worker's
own processor time is taken away, and that of looking at the loop a hundred times a second: what is left is
the control process's. Processor time, not time on the clock: a busy machine makes it hardly larger. About
50 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from gateway.model.codec import decode, encode
from gateway.model.observation import Observation, Outcome
from gateway.model.records import RecordBatch
from gateway.model.snapshot import Arm
from gateway.proxy.tally import Tally
from tests.support.control import Client, Gateway, make_gateway
from tests.support.counting import Clock, CountingWorker, response
from tests.support.experiments import experiment_config, halves, plain, recorded, serving, users

RATE = 5000
"""Requests a second."""
STREAM_SHARE = 0.01
"""Of the requests, those that stay open for minutes: every tick of the last five is unsettled then."""
STREAM_SECONDS = 120.0
"""How long they do on average."""
OPEN_SECONDS = 300
"""Before the measurement so many seconds have passed already."""
STEP, REPORT_INTERVAL = 0.05, 1.2
"""Seconds between two turns of the worker, and between two reports of whole ticks without news."""
BATCH = 500
"""Records in a batch."""
USERS = 60_000
SETTLE_SECONDS = 3.0
"""What comes first comes once: a worker's five minutes of ticks at a time."""
WATCH = 0.01
"""The loop is looked at so often, in seconds: a stall is what it did in between."""
MONITORING_LIMIT, STALL_LIMIT = 0.05, 0.05
"""The aims: the share of a core for monitoring, and the seconds that nothing may hold the loop."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time of the control process: its share of a core, and the worst stall in seconds."""

    share: float
    stall: float


class MadeWorker:
    """Makes requests, counts them as a worker does, and knows what that cost."""

    def __init__(self, gateway: Gateway, pid: int, stream_share: float) -> None:
        self.spent = 0.0
        """Seconds of processor time that are not the control process's."""
        self._gateway = gateway
        self._stream_share = stream_share
        self._clock = Clock(time.monotonic() - OPEN_SECONDS)
        self._worker = CountingWorker(self._clock, pid, gateway.link.current)
        self._random = random.Random(1)
        self._streams: list[tuple[float, int, Tally]] = []
        self._requests = 0
        self._reported_at = 0.0

    def begin(self) -> None:
        """Let the last minutes pass at once."""
        for _ in range(OPEN_SECONDS):
            self._serve(RATE)
            self._clock.at += 1.0
        self._clock.at = time.monotonic()

    async def run(self, batches: list[RecordBatch]) -> None:
        """For ever: serve and report; with `batches`, send as many records as there are requests."""
        turn = 0
        while True:
            began = time.thread_time()
            self._clock.at = time.monotonic()
            self._serve(round(RATE * STEP))
            packet = self._report()
            self.spent += time.thread_time() - began
            if packet is not None:
                self._gateway.report(decode(Observation, packet))
            if batches and turn % round(BATCH / (RATE * STEP)) == 0:
                self._gateway.link.send_records(batches[turn % len(batches)])
            turn += 1
            await asyncio.sleep(self._clock.at + STEP - time.monotonic())

    def _serve(self, number: int) -> None:
        chance, worker, head, now = self._random, self._worker, response(), self._clock.at
        for _ in range(number):
            self._requests += 1
            tally = worker.start(
                Arm.TREATMENT if chance.random() < 0.5 else Arm.CONTROL, first=chance.random() < 0.3
            )
            tally.answer(head, False)
            if chance.random() < self._stream_share:
                ends = now + chance.expovariate(1 / STREAM_SECONDS)
                heapq.heappush(self._streams, (ends, self._requests, tally))
            else:
                seconds = chance.lognormvariate(-1.5, 0.6)
                tally.end(head, Outcome.OK, False, seconds, seconds / 2)
        while self._streams and self._streams[0][0] <= now:
            tally = heapq.heappop(self._streams)[2]
            tally.end(head, Outcome.OK, False, STREAM_SECONDS * chance.lognormvariate(0.0, 0.3), 0.2)

    def _report(self) -> bytes | None:
        ticks, due = self._worker.ticks, self._clock.at - self._reported_at >= REPORT_INTERVAL
        if not ticks.news() and not due:
            return None
        of_quarters = not (due or ticks.ticks_due)
        if not of_quarters:
            self._reported_at = self._clock.at
        packet = encode(self._worker.report(of_quarters=of_quarters))
        ticks.sent()
        return packet


async def _cost(seconds: float, fed: Callable[[], float] = lambda: 0.0) -> Cost:
    """What this process takes in the next so many seconds, but for what `fed` says was the worker's."""
    begun, fed_before, worst = time.process_time(), fed(), 0.0
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        before, fed_till_then = time.thread_time(), fed()
        await asyncio.sleep(WATCH)
        worst = max(worst, time.thread_time() - before - (fed() - fed_till_then))
    spent = time.process_time() - begun - (fed() - fed_before)
    return Cost(spent / (time.monotonic() - began), worst)


async def _ask(client: Client) -> None:
    """For ever: what scrapers and a dashboard ask for, once a second."""
    while True:
        for path in ("/metrics", "/api/v1/status", "/api/v1/dashboard"):
            await client.ask("GET", path)
        await asyncio.sleep(1.0)


async def _during(work: Iterable[Coroutine[Any, Any, None]], worker: MadeWorker, seconds: float) -> Cost:
    """The cost while something else goes on, once it has settled down."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        return await _cost(seconds, lambda: worker.spent)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _measure(directory: Path, seconds: float) -> dict[str, Cost]:
    watching = (await _cost(seconds / 2)).share
    gateway = make_gateway(directory, experiment_config(exp=halves()))
    async with serving(gateway) as client:
        plain_worker, worker = MadeWorker(gateway, 1, 0.0), MadeWorker(gateway, 2, STREAM_SHARE)
        batches = [
            batch
            for first in range(0, USERS, BATCH)
            for batch in recorded(gateway.link.current, plain(users(USERS)[first : first + BATCH]))
        ]
        idle = await _during((), worker, seconds / 2)
        plain_worker.begin()
        monitoring = await _during((plain_worker.run([]),), plain_worker, seconds)
        gateway.workers.clear()
        worker.begin()
        costs = {
            "nothing to do": idle,
            "monitoring": monitoring,
            "and 1 % streams of minutes": await _during((worker.run([]),), worker, seconds),
            "and an experiment's records": await _during((worker.run(batches),), worker, seconds),
            "and metrics, status, dashboard": await _during((worker.run([]), _ask(client)), worker, seconds),
        }
    return {name: replace(cost, share=cost.share - watching) for name, cost in costs.items()}


def main() -> int:
    """Measure and print; 1 where an aim is missed and that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.monitoring", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the measurements")
    parser.add_argument("--strict", action="store_true", help="exit 1 when an aim is missed")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        costs = runner.run(_measure(Path(directory), options.seconds))
    table = Table(title=f"Control process, {RATE} requests/s, {OPEN_SECONDS} open ticks")
    for column in ("with", "of a core", "worst stall"):
        table.add_column(column, justify="left" if column == "with" else "right")
    for name, cost in costs.items():
        table.add_row(name, f"{cost.share:.1%}", f"{cost.stall * 1000:.0f} ms")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"aims: monitoring {MONITORING_LIMIT:.0%} of a core, no stall over {STALL_LIMIT * 1000:.0f} ms"
    )
    kept = costs["monitoring"].share <= MONITORING_LIMIT and all(
        cost.stall <= STALL_LIMIT for cost in costs.values()
    )
    return 1 if options.strict and not kept else 0


if __name__ == "__main__":
    sys.exit(main())
