"""What a worker counts of real requests: every way in which they can end, on the arm that was assigned."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import pytest

from gateway.core.folding import Fold
from gateway.core.sums import Profile
from gateway.latch import LatchKind
from gateway.model.observation import Observation
from gateway.model.snapshot import ConnectionLimits, Overrides, Timeouts
from tests.support.dataplane import Rig
from tests.support.polling import wait_until
from tests.support.raw import Client, Exchange, Script, answering, echo

pytestmark = pytest.mark.socket

BRISK = Timeouts(connect=2.0, first_byte=0.2, idle=0.3, total=None)


def get(path: bytes = b"/", user: bytes = b"alice", *fields: bytes) -> bytes:
    """A request of a user."""
    lines = [b"GET " + path + b" HTTP/1.1", b"Host: test.example", b"X-User-Id: " + user, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Counted:
    """What one arm must have."""

    started: int = 0
    answered: int = 0
    errors: int = 0
    client_errors: int = 0
    truncated: int = 0
    successes: int = 0
    failed_over: int = 0


NOTHING = Counted()
SUCCESS = Counted(started=1, answered=1, successes=1)
ERROR = Counted(started=1, answered=1, errors=1)
FAILED_OVER = replace(ERROR, failed_over=1)
OUT = Counted(started=1)


def observed(rig: Rig) -> list[Observation]:
    """The worker's report: made at once, for a snapshot is published."""
    rig.plane.settle()
    current = rig.plane.link.current
    rig.plane.publish(replace(current, version=current.version + 1))
    return rig.plane.link.drain()


def idle(rig: Rig) -> bool:
    """True if no request is open."""
    return all(report.inflight == (0, 0) for report in observed(rig))


def reported(rig: Rig) -> dict[str, Counted]:
    """Both arms as the worker reports them."""
    fold = Fold()
    observations = observed(rig)
    fold.take(observations, [report.pid for report in observations])
    arms = {"control": Profile(), "treatment": Profile()}
    failed_over = dict.fromkeys(arms, 0)
    for tick in fold.standing():
        for series, counts in tick.counts.items():
            arms[series.arm].count(counts)
            failed_over[series.arm] += counts.failed_over
    return {
        arm: Counted(
            sums.started,
            sums.answered,
            sums.errors,
            sums.client_errors,
            sums.truncated,
            sums.successes,
            failed_over[arm],
        )
        for arm, sums in arms.items()
    }


def ask(client: Client, request: bytes) -> None:
    """Send a request and read whatever comes until the answer or the connection ends."""
    client.send(request)
    client.transcript(b"GET", patience=3.0)


def resetting(exchange: Exchange) -> None:
    """Break the connection off before any head."""
    exchange.body()
    exchange.reset()


def silent(exchange: Exchange) -> None:
    """Never answer."""
    exchange.body()
    exchange.wait_gone()


def cut(exchange: Exchange) -> None:
    """Promise more than is sent."""
    exchange.body()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    exchange.close()


def cut_error(exchange: Exchange) -> None:
    """Fail, and cut the failure short."""
    exchange.body()
    exchange.send(b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhalf")
    exchange.close()


def stalled(exchange: Exchange) -> None:
    """Begin an answer and never go on."""
    exchange.body()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    exchange.wait_gone()


def with_status(line: bytes, *fields: bytes) -> Script:
    """Answer with that status."""
    return answering(b"\r\n".join([b"HTTP/1.1 " + line, b"Content-Length: 2", *fields, b"", b"hi"]))


@pytest.mark.parametrize(
    ("script", "counted"),
    [
        (echo, SUCCESS),
        (with_status(b"301 Moved"), SUCCESS),
        (with_status(b"500 No"), ERROR),
        (with_status(b"503 No"), ERROR),
        (with_status(b"429 Slow"), ERROR),
        (with_status(b"404 Not Found"), Counted(started=1, answered=1, client_errors=1)),
        (with_status(b"200 OK", b"X-Gateway-Metric: accuracy=0.9, success=0"), ERROR),
        (with_status(b"200 OK", b"X-Gateway-Metric: accuracy=0.9, success=1"), SUCCESS),
        (answering(b"not http at all\r\n\r\n", close=True), ERROR),
        (resetting, ERROR),
        (silent, ERROR),
        (cut, Counted(started=1, answered=1, truncated=1)),
        (stalled, Counted(started=1, answered=1, truncated=1)),
        (cut_error, ERROR),
    ],
    ids=[
        "ok",
        "redirect",
        "500",
        "503",
        "429",
        "404",
        "success=0",
        "success=1",
        "garbage",
        "reset",
        "silent",
        "cut",
        "stalled",
        "cut error",
    ],
)
@pytest.mark.parametrize("percentage", [0, 100])
def test_each_ending_is_counted_once_for_the_arm(percentage: int, script: Script, counted: Counted) -> None:
    """In both arms by the same rules, and nothing in the other one."""
    with Rig(percentage=percentage, script=script, timeouts=BRISK) as rig:
        with rig.connect() as client:
            ask(client, get(b"/", b"alice", b"Connection: close"))
        other = "control" if rig.arm == "treatment" else "treatment"
        assert wait_until(lambda: idle(rig))
        assert reported(rig) == {rig.arm: counted, other: NOTHING}


def test_a_head_counts_as_soon_as_it_is_there() -> None:
    """A stream that runs for minutes has its outcome at its first byte."""
    go_on = threading.Event()

    def stream(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        go_on.wait(5)
        exchange.send(b"lf")

    with Rig(percentage=100, script=stream) as rig, rig.connect() as client:
        client.send(get())
        head = client.head()
        assert reported(rig)["treatment"] == Counted(started=1, answered=1)
        go_on.set()
        client.finish(head)
        assert reported(rig)["treatment"] == SUCCESS


def test_a_client_that_leaves_before_the_head_is_out() -> None:
    """It says nothing of the arm."""
    with Rig(percentage=100, script=silent) as rig:
        with rig.connect() as client:
            client.send(get())
            assert wait_until(lambda: len(rig.treatment.heads) == 1)
        assert wait_until(lambda: idle(rig))
        assert reported(rig)["treatment"] == OUT


def test_a_client_that_leaves_amid_an_answer_is_no_truncation() -> None:
    """The head was good; that is all there is to say."""
    with Rig(percentage=100, script=stalled) as rig:
        with rig.connect() as client:
            client.send(get())
            client.head()
        assert wait_until(lambda: idle(rig))
        assert reported(rig)["treatment"] == Counted(started=1, answered=1)


def test_a_failover_is_treatment_s_failure() -> None:
    """Control answers in its place: the user is served, the blame stays."""
    with Rig(percentage=100) as rig:
        rig.treatment.close()
        with rig.connect() as client:
            client.send(get())
            response = client.response()
        assert (response.status, response.value(b"x-gateway-failover")) == (200, b"connect_error")
        assert reported(rig) == {"treatment": FAILED_OVER, "control": NOTHING}


def test_a_client_that_leaves_after_the_failover_does_not_take_the_blame_off() -> None:
    """Treatment had failed by then."""
    with Rig(percentage=100, script=silent) as rig:
        rig.treatment.close()
        with rig.connect() as client:
            client.send(get())
            assert wait_until(lambda: len(rig.control.heads) == 1)
        assert wait_until(lambda: idle(rig))
        assert reported(rig) == {"treatment": FAILED_OVER, "control": NOTHING}


def test_what_is_out_of_the_comparison_is_not_counted() -> None:
    """Requests without an id, overridden ones, and those that no route matches."""
    overrides = Overrides(token="secret", treatment=(), control=("ceo",))
    with Rig(percentage=100, overrides=overrides) as rig, rig.connect() as client:
        for request in (
            b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n",
            get(b"/", b"ceo"),
            get(b"/", b"bob", b"X-Gateway-Override: control", b"X-Gateway-Override-Token: secret"),
        ):
            client.send(request)
            assert client.response().status == 200
        assert reported(rig) == {"treatment": NOTHING, "control": NOTHING}


def test_a_request_under_the_latch_is_not_counted() -> None:
    """Everything goes to control then, and nothing compares."""
    with Rig(percentage=100, latched=True) as rig, rig.connect() as client:
        client.send(get())
        assert client.response().status == 200
        assert reported(rig) == {"treatment": NOTHING, "control": NOTHING}


def test_a_request_that_the_latch_takes_out_of_the_queue_is_out() -> None:
    """It had started on treatment; control serves it, and it counts for neither."""
    go_on = threading.Event()

    def held(exchange: Exchange) -> None:
        exchange.body()
        go_on.wait(5)
        exchange.answer(b"done")

    limits = ConnectionLimits(connections=1, pending=10)
    with (
        Rig(percentage=100, script=held, connection_limits=limits) as rig,
        rig.connect() as first,
        rig.connect() as second,
    ):
        first.send(get())
        assert wait_until(lambda: len(rig.treatment.heads) == 1)
        second.send(get(b"/queued", b"bob"))
        assert wait_until(lambda: reported(rig)["treatment"].started == 2)
        rig.plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        go_on.set()
        assert first.response().status == 200
        assert second.response().status == 200
        assert [head.target for head in rig.control.heads] == [b"/queued"]
        counts = reported(rig)["treatment"]
        assert counts == Counted(started=2, answered=1, successes=1)


def test_pipelined_requests_and_kept_connections_count_each() -> None:
    """A connection is nothing that is counted."""
    with Rig(percentage=100) as rig, rig.connect() as client:
        client.send(get(b"/1") + get(b"/2") + get(b"/3"))
        assert [response.status for response in client.responses(b"GET", b"GET", b"GET")] == [200] * 3
        assert reported(rig)["treatment"] == Counted(started=3, answered=3, successes=3)


def test_a_tunnel_is_not_judged() -> None:
    """It has no outcome to compare."""

    def upgrade(exchange: Exchange) -> None:
        exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        exchange.tunnel()
        exchange.wait_gone()

    with Rig(percentage=100, script=upgrade) as rig:
        with rig.connect() as client:
            client.send(
                get(b"/", b"alice", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
            )
            client.read_raw()
        assert reported(rig) == {"treatment": NOTHING, "control": NOTHING}


def test_latencies_reach_the_last_byte() -> None:
    """What a success took is from its head to the end of its answer."""

    def slow(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        threading.Event().wait(0.25)
        exchange.send(b"lf")

    with Rig(percentage=100, script=slow) as rig, rig.connect() as client:
        client.send(get())
        client.response()
        assert reported(rig)["treatment"] == SUCCESS
        fold = Fold()
        fold.take(rig.plane.link.drain(), [])
        profile = Profile()
        for tick in fold.standing():
            for counts in tick.counts.values():
                profile.count(counts)
        assert profile.mean is not None
        assert 0.25 <= profile.mean < 1.0
