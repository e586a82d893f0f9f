"""The access log: one JSON line for each request in the sample, also for one that was refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.logs import LineWriter
from gateway.proxy.accesslog import AccessLog
from tests.http.cases import GOOD, SWITCH, WEBSOCKET, get
from tests.support.dataplane import Rig
from tests.support.raw import PATIENCE, Exchange

pytestmark = pytest.mark.socket


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(percentage=100) as rig:
        yield rig
        rig.check_alive()


class Log:
    """What a worker's access log says, read from the pipe that it writes to."""

    def __init__(self, rig: Rig) -> None:
        self._reading, self._writing = os.pipe()
        self._writer = LineWriter(self._writing)
        self._writer.start()
        rig.plane.worker._context.access_log = AccessLog(1.0, self._writer)

    def lines(self) -> list[dict[str, object]]:
        """All lines up to now."""
        assert self._writer.flush(PATIENCE)
        os.write(self._writing, b"\n")
        return [json.loads(line) for line in os.read(self._reading, 65_536).splitlines() if line]


def test_a_request_is_one_line(rig: Rig) -> None:
    """Who got which arm and why, how it ended and how long it took; the query stays out."""
    log = Log(rig)
    with rig.connect() as client:
        client.send(get(b"X-Request-Id: seven", target=b"/case?secret=1"))
        assert client.response().status == 200
    rig.plane.settle()
    (line,) = log.lines()
    assert {**line, "time": 0, "duration": 0, "time_to_first_byte": 0} == {
        "time": 0,
        "request_id": "seven",
        "method": "GET",
        "path": "/case",
        "status": 200,
        "outcome": "ok",
        "duration": 0,
        "time_to_first_byte": 0,
        "route": "default",
        "arm": "treatment",
        "group": None,
        "experiment": None,
        "reason": "no_identity",
    }


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /case HTTP/1.1\r\n\r\n", 400),
        (b"POST /case HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_what_was_refused_is_a_line_too(rig: Rig, sent: bytes, status: int) -> None:
    """A request that never got a route is found by the id that its client was told."""
    log = Log(rig)
    with rig.connect() as client:
        client.send(sent)
        response = client.response()
        assert response.status == status
    (line,) = log.lines()
    assert (line["status"], line["outcome"], line["path"]) == (status, "rejected", None)
    assert line["request_id"] == (response.value(b"x-request-id") or b"").decode()


def test_a_tunnel_is_a_line_with_the_bytes_of_both_directions() -> None:
    """Once it has ended; what came early, before the switch or with it, counts as well."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        tunnel = exchange.tunnel()
        exchange.send(SWITCH + b"hello")
        while data := tunnel.recv(65_536):
            exchange.send(data)
        exchange.send(b"goodbye")
        exchange.close()

    with Rig() as rig, rig.upstream.running(script):
        log = Log(rig)
        with rig.connect() as client:
            client.send(get(*WEBSOCKET) + b"early")
            assert client.head().status == 101
            assert client.read_exactly(10) == b"helloearly"
            client.send(b"x" * 1000)
            assert client.read_exactly(1000) == b"x" * 1000
            assert log.lines() == []
            client.half_close()
            assert client.read_exactly(7) == b"goodbye"
            assert client.read_raw() == b""
        rig.plane.settle()
        (line,) = log.lines()
    assert (line["status"], line["outcome"]) == (101, "ok")
    assert (line["bytes_up"], line["bytes_down"]) == (5 + 1000, 5 + 5 + 1000 + 7)


def test_a_sample_of_none_is_no_log(rig: Rig) -> None:
    """Off and on again by reloads: the same log goes on, and no thread is left behind."""
    worker = rig.plane.worker
    seen = []
    for version, sample in enumerate((1e-9, 0.0, 1e-9), start=rig.snapshot.version + 1):
        rig.plane.publish(replace(rig.snapshot, version=version, access_log_sample=sample))
        seen.append(worker._context.access_log)
        with rig.connect() as client:
            client.send(GOOD)
            assert client.response().status == 200
    assert seen == [seen[0], None, seen[0]]
    assert seen[0] is not None
