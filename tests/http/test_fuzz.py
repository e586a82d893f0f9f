"""The fuzz: whatever a client sends, an upstream gets strict HTTP/1.1 and only what was validly sent.

The big one runs the worker's own protocols on paper transports, the small one a real worker over
sockets. Both hold three oracles: egress (strict bytes, no other request and no other body than the
reference parser finds), ingress (the client gets strict responses) and liveness.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.cases import GOOD
from tests.http.conftest import Place
from tests.http.grammar import conversations
from tests.support.dataplane import Rig
from tests.support.egress import Event, ResponseHead, ResponseParser
from tests.support.paper import PaperLoop, PaperPlane
from tests.support.reference import Sent, valid_requests

BATCH = 25
BATCHES = 840
"""Batch times batches is the number of inputs: at least 20,000."""

_relaxed = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def check_egress(sent: bytes, received: list[Sent]) -> None:
    """The upstream got a beginning of what the client validly sent, and nothing else."""
    valid = valid_requests(sent)
    assert received == valid[: len(received)], (sent, received, valid)


def check_ingress(sent: bytes, received: bytes, methods: list[bytes]) -> None:
    """The client got strict responses, at most one more than requests reached the upstream."""
    parser, events = _parsed(received, methods)
    if not parser.idle:
        # The last one was refused before it reached an upstream; perhaps it was a HEAD.
        parser, events = _parsed(received, [*methods, b"HEAD"])
    assert parser.idle, (sent, received)
    finals = [event for event in events if isinstance(event, ResponseHead) and event.status >= 200]
    assert len(methods) <= len(finals) <= len(methods) + 1, (sent, received, methods)
    assert all(head.status < 500 or head.status in (501, 505) for head in finals), (sent, finals)


def _parsed(received: bytes, methods: list[bytes]) -> tuple[ResponseParser, list[Event]]:
    parser = ResponseParser()
    for method in methods:
        parser.expect(method)
    return parser, parser.feed(received)


@pytest.mark.slow
def test_paper_fuzz() -> None:
    """21,000 streams of one to three requests, many of them damaged, on paper."""
    loop = PaperLoop()
    plane = PaperPlane(loop)
    inputs = 0

    async def run(pieces: list[bytes]) -> None:
        nonlocal inputs
        inputs += 1
        sent = b"".join(pieces)
        loop.completed.clear()
        answered = await plane.converse(pieces)
        check_egress(sent, loop.completed)
        check_ingress(sent, answered, [request.method for request in loop.completed])
        loop.completed.clear()
        assert (await plane.converse([GOOD])).startswith(b"HTTP/1.1 200 OK\r\n"), sent
        assert loop.completed == [Sent(b"GET", b"/good", b"")], sent
        assert loop.faults == [], sent

    @settings(_relaxed, max_examples=BATCHES)
    @given(st.lists(conversations, min_size=BATCH, max_size=BATCH))
    def fuzz(batch: list[list[bytes]]) -> None:
        async def run_all() -> None:
            for pieces in batch:
                await run(pieces)

        loop.run_until_complete(run_all())

    try:
        fuzz()
    finally:
        plane.close()
        loop.close()
    assert inputs >= 20_000


@pytest.mark.slow
def test_socket_fuzz(rigs: dict[Place, Rig]) -> None:
    """The same streams over real sockets, to control, to treatment and latched: the answers match."""

    @settings(_relaxed, max_examples=150)
    @given(conversations)
    def fuzz(pieces: list[bytes]) -> None:
        sent = b"".join(pieces)
        valid = valid_requests(sent)
        statuses = set()
        for rig in rigs.values():
            since = len(rig.upstream.begun)
            with rig.connect_apart() as client:
                for piece in pieces:
                    client.send(piece)
                    rig.plane.settle()
                client.half_close()
                transcript = client.transcript(*(request.method for request in valid))
            rig.check_alive()
            exchanges = [one for one in rig.requests_of(client, since) if one.complete]
            received = [Sent(one.head.method, one.head.target, one.received_body) for one in exchanges]
            check_egress(sent, received)
            statuses.add(tuple(transcript.statuses))
            assert transcript.ending is not None
        assert all(len(seen) <= len(valid) + 1 for seen in statuses), (sent, statuses)

    fuzz()
