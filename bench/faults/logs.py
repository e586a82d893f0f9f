"""Fault 17: nobody reads standard output any more, with an access log of every request."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import statistics
import threading
from collections.abc import Iterator

from bench.faults import load
from bench.faults.findings import Findings
from bench.faults.gateways import gateway_before, two_pipelines
from tests.faults.operating import deployment, metric

REQUESTS_PER_SECOND = 500.0
WINDOW_SECONDS = 6.0
ROUNDS = 3
"""Windows in which nobody reads; there is one more in which somebody does."""
FILLING_PER_SECOND, FILLING_SECONDS = 1500.0, 8.0
USERS = range(1000)
ADDED_MILLISECONDS = 5.0


class Reader:
    """Reads a pipe to its end, and stops while `reading` is unset."""

    def __init__(self, pipe: int) -> None:
        self.reading = threading.Event()
        self.reading.set()
        self._pipe = pipe
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            self.reading.wait()
            if select.select([self._pipe], [], [], 0.1)[0]:
                os.read(self._pipe, 1 << 16)

    def close(self) -> None:
        """Stop for good."""
        self._over.set()
        self.reading.set()
        self._thread.join()


@contextlib.contextmanager
def pipe_and_reader() -> Iterator[tuple[int, Reader]]:
    """The end that the gateway writes to, and who reads the other."""
    reading, writing = os.pipe()
    reader = Reader(reading)
    try:
        yield writing, reader
    finally:
        reader.close()
        os.close(reading)
        os.close(writing)


def logs(scale: float) -> Findings:
    """p99 with and without a reader, in turns; what is lost is counted."""
    findings = Findings()
    extra = {"deployment": deployment(50), "access_log": {"sample": 1}}
    with two_pipelines() as (control, treatment), pipe_and_reader() as (writing, reader):
        ports = {"traditional": control.port, "dspy": treatment.port}
        with gateway_before(ports, extra, stdout=writing, stderr=writing) as gateway:

            def window() -> load.Seen:
                with load.at_rate(gateway.port, REQUESTS_PER_SECOND, WINDOW_SECONDS, USERS) as running:
                    return load.seen(running.wait())

            def fill() -> None:
                """Until the queue before the pipe is full as well, and lines are dropped."""
                with load.at_rate(gateway.port, FILLING_PER_SECOND, FILLING_SECONDS, USERS) as running:
                    running.wait()

            window()  # connections are opened, caches are warm
            read, unread = [window()], []
            for _ in range(max(1, round(ROUNDS * scale))):
                reader.reading.clear()
                fill()
                unread.append(window())
                reader.reading.set()
                read.append(window())
            dropped = metric(gateway, "gateway_records_dropped_total")
    calm, full = ([each.latency["p99"] for each in windows] for windows in (read, unread))
    for name, values in (("read", calm), ("unread", full)):
        findings.tell(f"p99, {name} (ms)", " ".join(f"{value:.2f}" for value in values))
    neighbours = [statistics.mean(pair) for pair in itertools.pairwise(calm)]
    added = [value - beside for value, beside in zip(full, neighbours, strict=True)]
    findings.at_most("p99 added (ms, median)", statistics.median(added), ADDED_MILLISECONDS)
    findings.tell("requests", sum(each.sent for each in read + unread))
    findings.exactly("failed requests", sum(len(each.failures) for each in read + unread), 0)
    findings.at_least("lines dropped and counted", dropped, 1)
    return findings
