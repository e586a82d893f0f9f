"""Experiments for tests: a config with one, and records as workers would make them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from xxhash import xxh3_64_intdigest

from gateway.core.split import Table
from gateway.model.records import RECORD, REQUEST, RecordBatch
from gateway.model.snapshot import Snapshot
from gateway.model.ticks import Series
from tests.support.control import Client, Gateway

Visit = tuple[str, float, Mapping[str, float]]
"""A user's request: the id, its latency in seconds (FAILED for a failure), and what was reported with it."""


def experiment_config(
    *, percentage: float = 100, routes: Iterable[str] = ("default",), **experiments: Mapping[str, Any]
) -> str:
    """A whole config in phase canary; each experiment is on the route of its key `route`, if it has one."""
    written = {name: dict(experiment) for name, experiment in experiments.items()}
    on_route = {experiment.pop("route", None): name for name, experiment in written.items()}
    rules = []
    for route in routes:
        prefix = "/" if route == "default" else f"/{route}"
        rule = {
            "name": route,
            "match": {"path_prefix": prefix},
            "control": "traditional",
            "treatment": "dspy",
        }
        if route in on_route:
            rule["experiment"] = on_route[route]
        rules.append(rule)
    return json.dumps(
        {
            "version": 1,
            "upstreams": {
                "traditional": {"endpoints": ["http://127.0.0.1:9001"]},
                "dspy": {"endpoints": ["http://127.0.0.1:9002"]},
            },
            "routes": rules,
            "deployment": {
                "initial_phase": "canary",
                "phases": {"canary": {"user_percentage": percentage}},
                "experiments": written,
            },
        }
    )


def halves(**more: Any) -> dict[str, Any]:
    """An experiment of two equal groups on the route `default`."""
    return {
        "route": "default",
        "groups": {"control": {"weight": 50}, "treatment": {"weight": 50}},
        "minimum_sample_size": 10,
        **more,
    }


def recorded(snapshot: Snapshot, visits: Iterable[Visit], path: str = "/") -> list[RecordBatch]:
    """The records of these requests, as a worker that serves by the snapshot makes them."""
    table = Table(snapshot)
    route = table.match(b"GET", path.encode(), {})
    assert route is not None
    everything = [True] * len(snapshot.upstreams)
    series: dict[Series, int] = {}
    data = bytearray()
    for user, latency, reported in visits:
        decision = table.decide(route, False, everything, user.encode(), None, b"")
        experiment = decision.route.experiment
        if not decision.analysed or decision.group is None or experiment is None or not experiment.counted:
            continue
        key = Series(
            snapshot.version, route.route.name, decision.assigned.label, experiment.id, decision.group
        )
        number = series.setdefault(key, len(series))
        hashed = xxh3_64_intdigest(user.encode())
        data += RECORD.pack(hashed, number, REQUEST, latency)
        for metric, value in reported.items():
            data += RECORD.pack(hashed, number, snapshot.metrics.index(metric) + 1, value)
    numbered = {number: key for key, number in series.items()}
    return [RecordBatch("worker-1", numbered, snapshot.metrics, bytes(data))] if data else []


def visit(gateway: Gateway, visits: Iterable[Visit], path: str = "/") -> None:
    """Users come to a gateway whose workers serve by the newest snapshot."""
    for batch in recorded(gateway.link.current, visits, path):
        gateway.link.send_records(batch)


def users(count: int, prefix: str = "user") -> list[str]:
    """Names of users."""
    return [f"{prefix}-{number}" for number in range(count)]


def plain(names: Iterable[str], latency: float = 0.2) -> list[Visit]:
    """One successful request of each."""
    return [(name, latency, {}) for name in names]


@contextlib.asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[Client]:
    """A control process that has published its first snapshot."""
    async with gateway.control() as client:
        await client.status()
        yield client


async def shown(client: Client, name: str = "exp") -> dict[str, Any]:
    """The document of an experiment."""
    status, document = await client.ask("GET", f"/api/v1/experiments/{name}")
    assert status == 200, document
    return dict(document)


async def participants(client: Client, name: str = "exp") -> dict[str, int]:
    """The number of participants of each group."""
    return {group: found["participants"] for group, found in (await shown(client, name))["groups"].items()}
