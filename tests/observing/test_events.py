"""An event `error` in a stream of server-sent events is a failure, where a route asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.events import EventWatch, is_event_stream
from tests.support.dataplane import Rig
from tests.support.examples import examples
from tests.support.polling import wait_until
from tests.support.raw import Exchange, Script
from tests.support.snapshots import make_route
from tests.windows.test_counting import SUCCESS, Counted, get, idle, reported

TOLD = Counted(started=1, answered=1, truncated=1)


@pytest.mark.parametrize(
    ("stream", "failed"),
    [
        (b"event: error\ndata: no\n\n", True),
        (b"event:error\r\n\r\n", True),
        (b"data: a\n\nevent: error\rdata: b\r\r", True),
        (b"data: a\r\n\r\nevent: error\r\n", True),
        (b"data: event: error\n\n", False),
        (b"event:  error\n\n", False),
        (b"event: errors\n\n", False),
        (b"event: error", False),
        (b" event: error\n\n", False),
        (b"Event: error\n\n", False),
        (b"event: done\ndata: error\n\n", False),
    ],
)
@examples(30)
@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_the_event_is_found_however_the_stream_is_cut(stream: bytes, failed: bool, cuts: list[int]) -> None:
    """A whole line, with any line end, and nothing that only looks like it."""
    watch = EventWatch()
    begin = 0
    for end in [*sorted(cuts), len(stream)]:
        watch.feed(stream[begin:end])
        begin = max(begin, end)
    assert watch.failed is failed


@pytest.mark.parametrize(
    ("lines", "readable"),
    [
        ([b"Content-Type: text/event-stream"], True),
        ([b"Vary: *", b"content-type:text/Event-Stream; charset=utf-8"], True),
        ([b"Content-Type: text/event-streams"], False),
        ([b"Content-Type: application/json"], False),
        ([b"Content-Type: text/event-stream", b"Content-Encoding: gzip"], False),
        ([b"Content-Type: text/event-stream", b"Content-Encoding: identity"], True),
        ([], False),
    ],
)
def test_only_plain_event_streams_are_read(lines: list[bytes], readable: bool) -> None:
    """What is compressed, or something else, passes unread."""
    assert is_event_stream(lines) is readable


def rig(script: Script, asks: bool = True) -> Rig:
    """Treatment for everybody, on a route that asks for errors within streams or does not."""
    return Rig(percentage=100, script=script, routes=(replace(make_route(), stream_errors=asks),))


def streaming(*pieces: bytes) -> Script:
    """Send pieces of a chunked event stream, then its end."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for piece in pieces:
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")

    return script


FAILING = streaming(b"data: a\n\nevent: er", b"ror\ndata: boom\n\n")


@pytest.mark.parametrize(
    ("script", "asks", "counted"),
    [
        (FAILING, True, TOLD),
        (FAILING, False, SUCCESS),
        (streaming(b"data: a\n\n"), True, SUCCESS),
    ],
    ids=["told", "not asked", "well"],
)
@pytest.mark.socket
def test_a_stream_that_tells_of_a_failure_counts_as_cut(script: Script, asks: bool, counted: Counted) -> None:
    """The head was good; the client gets every byte of it; the arm has failed nevertheless."""
    with rig(script, asks) as plane, plane.connect() as client:
        client.send(get())
        response = client.response()
        assert response.status == 200
        assert response.body.startswith(b"data: a\n\n")
        assert wait_until(lambda: idle(plane))
        assert reported(plane)["treatment"] == counted


@pytest.mark.socket
def test_leaving_after_the_failure_does_not_undo_it() -> None:
    """Who reads that it failed has no reason to stay."""

    def fail_and_hang(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: error\n\n")
        exchange.wait_gone()

    with rig(fail_and_hang) as plane:
        with plane.connect() as client:
            client.send(get())
            assert client.head().status == 200
            assert client.piece() == b"event: error\n\n"
        assert wait_until(lambda: idle(plane))
        assert reported(plane)["treatment"] == TOLD


@pytest.mark.socket
def test_an_event_stream_of_known_length_is_read_too() -> None:
    """Nothing depends on how the body is framed."""
    body = b"event: error\ndata: boom\n\n"

    def script(exchange: Exchange) -> None:
        exchange.body()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
        exchange.send(head + body)

    with rig(script) as plane:
        with plane.connect() as client:
            client.send(get())
            assert client.response().body == body
        assert wait_until(lambda: idle(plane))
        assert reported(plane)["treatment"] == TOLD
