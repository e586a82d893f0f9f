"""What an experiment adds to a request in the worker: a second hash, a record, and the record's leaving.

Each part runs as the worker runs it, on tables and records of its own: the decision with and without an
experiment on the route, the hash of the user with the record in its buffer, and a full batch encoded and sent
to the other end of a real link. The least of several rounds, in CPU time: others on the machine only add.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xxhash import xxh3_64_intdigest

from bench.decisions.report import Line
from gateway.control.config.loading import load
from gateway.core.compile import compile_snapshot, initial_position
from gateway.core.split import Table
from gateway.link import packets
from gateway.link.batches import encode_batch
from gateway.model.records import MOST_RECORDS, REQUEST, RecordBatch
from gateway.model.ticks import Series
from gateway.proxy.records import Records

REQUESTS = 20_000
ROUNDS = 15
MOST = 2e-6
"""Seconds of CPU for each request."""
EXPERIMENT = {"seed": "s", "groups": {"control": {"weight": 50}, "treatment": {"weight": 50}}}
USERS = [f"user-{number}".encode() for number in range(REQUESTS)]


def record(fewer: int) -> Iterator[Line]:
    """The cost of a request's record, and of its parts."""
    rounds = max(3, ROUNDS // fewer)
    with tempfile.TemporaryDirectory() as folder:
        plain, dealt = (table(Path(folder), experiment) for experiment in (None, "exp"))
    decision = least(lambda: decide(dealt), rounds) - least(lambda: decide(plain), rounds)
    made = least(lambda: make_records(lambda batch: True), rounds) - least(go_over_users, rounds)
    left = least_of_leaving(rounds)
    whole = decision + made + left
    parts = f"decision {decision * 1e6:.2f}, record {made * 1e6:.2f}, its leaving {left * 1e6:.2f}"
    found = f"{whole * 1e6:.2f} µs of CPU ({parts})"
    runs = rounds * REQUESTS
    yield Line(
        "hotpath", "an experiment on, in the worker: a request more", runs, "≤ 2 µs", found, whole <= MOST
    )


def table(folder: Path, experiment: str | None) -> Table:
    """The decisions of a gateway with one route, with an experiment on it or without."""
    endpoints = {"endpoints": ["http://127.0.0.1:1"]}
    route = {"name": "default", "match": {"path_prefix": "/"}, "control": "old", "treatment": "new"}
    document: dict[str, Any] = {
        "version": 1,
        "upstreams": {"old": endpoints, "new": endpoints},
        "routes": [route if experiment is None else {**route, "experiment": experiment}],
        "deployment": {"initial_phase": "development"},
    }
    if experiment is not None:
        document["deployment"]["experiments"] = {experiment: EXPERIMENT}
    path = folder / "gateway.yaml"
    path.write_text(json.dumps(document))
    loaded = load(path, {})
    position = initial_position(loaded.config)
    return Table(compile_snapshot(loaded.config, position, digest=loaded.digest, version=1))


def least(work: Callable[[], object], rounds: int) -> float:
    """Seconds of CPU that `work` takes for each request, in the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.thread_time()
        work()
        best = min(best, time.thread_time() - begun)
    return best / REQUESTS


def decide(table: Table) -> None:
    """Decide for every user."""
    (route,), available = table.routes, [True] * len(table.snapshot.upstreams)
    for user in USERS:
        table.decide(route, False, available, user, None, b"")


def go_over_users() -> None:
    """What the loop itself costs."""
    for _ in USERS:
        pass


def make_records(send: Callable[[RecordBatch], bool]) -> None:
    """A record of one request of every user."""
    records = Records("incarnation")
    records.send = send
    series = Series(1, "default", "control", "exp", "control")
    for user in USERS:
        records.add(xxh3_64_intdigest(user), 3, series, REQUEST, 0.25)


def least_of_leaving(rounds: int) -> float:
    """Seconds of CPU for each record to be sent, a full batch at a time."""
    batches: list[RecordBatch] = []

    def keep(batch: RecordBatch) -> bool:
        batches.append(batch)
        return True

    make_records(keep)
    best = float("inf")
    sender, receiver = packets.pair()
    with contextlib.closing(sender), contextlib.closing(receiver):
        for _ in range(rounds):
            begun = time.thread_time()
            sent = packets.send(sender, packets.PacketKind.RECORDS, encode_batch(batches[0]))
            best = min(best, time.thread_time() - begun)
            packet = packets.receive(receiver)
            assert sent, "the batch did not leave"
            assert packet is not None, "the batch did not arrive"
            packet.close()
    return best / MOST_RECORDS
