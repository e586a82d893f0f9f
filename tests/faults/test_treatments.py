"""Faults 27 and 30, and the end of a rollback: a treatment that hangs, flaps, or still has streams open."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gateway.latch import LatchKind
from gateway.model.observation import BreakerReport, BreakerState
from gateway.model.snapshot import ConnectionLimits, OutlierDetection, Timeouts
from gateway.proxy import breaker as breaker_module
from tests.faults.counting import counted
from tests.support.dataplane import DataPlane, Rig
from tests.support.polling import wait_until
from tests.support.raw import PATIENCE, Exchange, Response, Upstream, echo
from tests.support.serving import PATIENT, serving

pytestmark = pytest.mark.socket

TREATMENT = 100
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
EJECTING = {"outlier_detection": OutlierDetection(consecutive_failures=3, ejection_time=0.5, on_5xx=False)}
HANDSHAKE = (
    b"GET /tunnel HTTP/1.1\r\nHost: pipeline.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def get(path: str = "/x", user: str = "u1") -> bytes:
    """A request of a user's."""
    return f"GET {path} HTTP/1.1\r\nHost: pipeline.example\r\nX-User-Id: {user}\r\n\r\n".encode()


def ask(plane: DataPlane, request: bytes | None = None) -> Response:
    """The answer to one request on a connection of its own."""
    with plane.connect() as client:
        client.send(get() if request is None else request)
        return client.response()


def breaker(plane: DataPlane) -> BreakerReport:
    """The breaker of treatment, now."""
    (pool,) = plane.worker._context.plan.treatment_pools
    return plane.call(pool.report_breaker)


def in_state(plane: DataPlane, state: BreakerState) -> Callable[[], bool]:
    return lambda: breaker(plane).state is state


def hang(exchange: Exchange) -> None:
    """Take the request and never answer."""
    exchange.body()
    exchange.wait_gone()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker whose times are a quarter as long, in the same proportions."""
    for name in ("REACH_SECONDS", "KNOCK_SECONDS", "PROBE_SECONDS", "PROOF_SECONDS"):
        monkeypatch.setattr(breaker_module, name, getattr(breaker_module, name) / 4)


# --- fault 27: it hangs ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_treatment_that_hangs_is_contained() -> None:
    """Control is served meanwhile, treatment has no more in flight than its limits, and soon gets none."""
    treatment, control = Upstream(hang), Upstream(echo)
    limits = ConnectionLimits(connections=4, pending=4)
    patient = {"outlier_detection": OutlierDetection(3, ejection_time=30.0, on_5xx=False)}
    times = Timeouts(connect=5.0, first_byte=2.0, idle=5.0, total=None)
    snapshot = serving(
        [control.url], [treatment.url], 50, timeouts=times, connection_limits=limits, upstream=patient
    )
    plane = DataPlane(snapshot)
    arm_of = {}
    table = plane.worker._context.plan.table
    for number in range(200):
        user = f"user-{number}"
        decision = table.decide(table.routes[0], False, [True, True], user.encode(), None, b"")
        arm_of[user] = decision.arm.label
    treated = [user for user, arm in arm_of.items() if arm == "treatment"]
    untreated = [user for user, arm in arm_of.items() if arm == "control"]
    statuses: list[int] = []

    def use(user: str) -> None:
        statuses.append(ask(plane, get(user=user)).status)

    threads = [threading.Thread(target=use, args=(user,)) for user in treated[:12]]
    try:
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(treatment.begun) == limits.connections)
        slowest = 0.0
        while any(thread.is_alive() for thread in threads):
            began = time.monotonic()
            response = ask(plane, get(user=untreated[0]))
            slowest = max(slowest, time.monotonic() - began)
            assert (response.status, response.value(b"x-gateway-arm")) == (200, b"control")
            # Its threads may learn of an ended connection after the next one was accepted.
            assert wait_until(lambda: len(treatment.open_connections) <= limits.connections)
        assert slowest < times.first_byte  # type: ignore[operator]
        # Those above both limits were refused at once, the others at the deadline; the breaker is open.
        assert set(statuses) <= {503, 504}
        assert statuses.count(503) >= 12 - limits.connections - limits.pending
        assert wait_until(lambda: breaker(plane).trips == 1)
        response = ask(plane, get(user=treated[-1]))
        assert (response.status, response.value(b"x-gateway-failover")) == (200, b"no_healthy_endpoint")
    finally:
        for thread in threads:
            thread.join()
        plane.close()
        treatment.close()
        control.close()


# --- fault 30: it flaps ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_treatment_that_flaps_moves_its_users_once() -> None:
    """0.7 s up and down by the clock: to control, and but for single probes they stay there."""

    def flap(exchange: Exchange) -> None:
        exchange.body()
        exchange.answer(b"up") if int(time.monotonic() / 0.7) % 2 else exchange.reset()

    treatment, control = Upstream(flap), Upstream(echo)
    plane = DataPlane(serving([control.url], [treatment.url], TREATMENT, upstream=EJECTING))
    users = [f"user-{number}" for number in range(20)]
    arms: list[bytes | None] = []
    try:
        assert wait_until(lambda: (ask(plane), breaker(plane).trips)[1] > 0)
        end = time.monotonic() + 3.5
        for user in itertools.cycle(users):
            response = ask(plane, get(user=user))
            assert response.status in (200, 502)
            arms.append(response.value(b"x-gateway-arm"))
            if time.monotonic() > end:
                break
        assert breaker(plane).state is not BreakerState.CLOSED
        # Without a breaker half of them would be treatment's: it is up half of the time.
        assert arms.count(b"treatment") <= 10
        assert arms.count(b"control") > 30
    finally:
        plane.close()
        treatment.close()
        control.close()


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_after_an_ejection_single_probes_come_before_everybody() -> None:
    """Half-open, single requests go to treatment; after a good time all do again."""
    treatment, control = Upstream(lambda exchange: exchange.reset()), Upstream(echo)
    plane = DataPlane(serving([control.url], [treatment.url], TREATMENT, upstream=EJECTING))
    try:
        for _ in range(3):
            assert ask(plane).status == 502
        assert wait_until(in_state(plane, BreakerState.OPEN))
        assert ask(plane).value(b"x-gateway-arm") == b"control"
        treatment.script = echo
        assert wait_until(in_state(plane, BreakerState.HALF_OPEN))
        served = {b"control": 0, b"treatment": 0}
        while breaker(plane).state is BreakerState.HALF_OPEN:
            served[ask(plane).value(b"x-gateway-arm") or b""] += 1
        assert 1 <= served[b"treatment"] <= 6 < served[b"control"]
        assert breaker(plane).state is BreakerState.CLOSED
        assert [ask(plane).value(b"x-gateway-arm") for _ in range(5)] == [b"treatment"] * 5
    finally:
        plane.close()
        treatment.close()
        control.close()


@pytest.mark.usefixtures("hurried")
def test_nobody_is_sent_to_a_treatment_that_lets_nobody_in() -> None:
    """Away for longer than its ejection: the gateway knocks, users get control; and then both are back."""
    treatment, control = Upstream(lambda exchange: exchange.reset()), Upstream(echo)
    plane = DataPlane(serving([control.url], [treatment.url], TREATMENT, upstream=EJECTING))
    address = ("127.0.0.1", treatment.port)
    try:
        for _ in range(3):
            assert ask(plane).status == 502
        treatment.close()
        (pool,) = plane.worker._context.plan.treatment_pools
        assert wait_until(lambda: pool.endpoints[0].readmitted_at > 0)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            response = ask(plane)
            assert (response.status, response.value(b"x-gateway-failover")) == (200, b"no_healthy_endpoint")
        assert (breaker(plane).state, breaker(plane).trips) == (BreakerState.OPEN, 1)
        assert pool.endpoints[0].ejections == 1
        treatment = Upstream(echo, address=address)
        assert wait_until(in_state(plane, BreakerState.HALF_OPEN))
        assert len(treatment.connections) > 2
        assert not treatment.heads
        assert ask(plane).value(b"x-gateway-arm") == b"treatment"
        assert wait_until(lambda: (ask(plane), breaker(plane).state)[1] is BreakerState.CLOSED)
    finally:
        plane.close()
        treatment.close()
        control.close()


@pytest.mark.usefixtures("hurried")
def test_a_failure_that_set_out_before_the_ejection_ended_ejects_nobody_again() -> None:
    """Requests that hung in a bad time come back as time-outs in a good one."""
    gate = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        if exchange.head.target == b"/late":
            gate.wait(PATIENCE)
        exchange.reset() if exchange.head.target != b"/good" else exchange.answer(b"ok")

    treatment, control = Upstream(script), Upstream(echo)
    plane = DataPlane(serving([control.url], [treatment.url], TREATMENT, upstream=EJECTING))
    try:
        with contextlib.ExitStack() as stack:
            late = [stack.enter_context(plane.connect()) for _ in range(3)]
            for client in late:
                client.send(get("/late"))
            assert wait_until(lambda: len(treatment.begun) == 3)
            for _ in range(3):
                assert ask(plane, get("/bad")).status == 502
            assert wait_until(in_state(plane, BreakerState.HALF_OPEN))
            gate.set()
            assert [client.response().status for client in late] == [502] * 3
            assert breaker(plane).state is BreakerState.HALF_OPEN
            assert breaker(plane).trips == 1
    finally:
        gate.set()
        plane.close()
        treatment.close()
        control.close()


# --- an emergency ---------------------------------------------------------------------------------------


def test_an_emergency_opens_the_breaker_and_its_release_half_opens_it() -> None:
    """Open while it holds; afterwards nobody is turned away, and the first good answer closes it."""
    with Rig(percentage=TREATMENT) as rig:
        plane = rig.plane
        assert breaker(plane).state is BreakerState.CLOSED
        number = plane.latch.engage(LatchKind.EMERGENCY, "test", "test")
        assert wait_until(in_state(plane, BreakerState.OPEN))
        assert ask(plane).value(b"x-gateway-arm") == b"control"
        plane.latch.release(number)
        assert wait_until(in_state(plane, BreakerState.HALF_OPEN))
        assert ask(plane).value(b"x-gateway-arm") == b"treatment"
        assert in_state(plane, BreakerState.CLOSED)()


def test_a_rollback_leaves_the_breaker_alone() -> None:
    """Only an emergency says that treatment is not to be asked."""
    with Rig(percentage=TREATMENT) as rig:
        rig.plane.latch.engage(LatchKind.ROLLBACK, "test", "test")
        sweeps = rig.plane.worker._sweeps
        assert wait_until(lambda: rig.plane.worker._sweeps > sweeps + 2)
        assert breaker(rig.plane).state is BreakerState.CLOSED


# --- streams that are open after a rollback -------------------------------------------------------------


@contextlib.contextmanager
def open_streams(limit: float | None, percentage: int) -> Iterator[Rig]:
    """A rig whose upstreams stream half an answer for ever, and only wait at /wait."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        if exchange.head.target == b"/tunnel":
            exchange.send(SWITCHING)
        elif exchange.head.target != b"/wait":
            exchange.send(STREAM_HEAD)
        exchange.wait_gone()

    with Rig(percentage=percentage, script=script, timeouts=PATIENT, open_streams=limit) as rig:
        yield rig


@pytest.mark.parametrize("kind", [LatchKind.ROLLBACK, LatchKind.EMERGENCY])
def test_streams_on_treatment_end_at_the_limit_and_never_look_whole(kind: LatchKind) -> None:
    """A stream is cut, a request that waits is told, a tunnel ends; none of it is treatment's fault."""
    limit = 0.4
    with open_streams(limit, TREATMENT) as rig, contextlib.ExitStack() as stack:
        stream, waiting, tunnel = (stack.enter_context(rig.connect()) for _ in range(3))
        stream.send(get())
        response = stream.head()
        waiting.send(get("/wait"))
        tunnel.send(HANDSHAKE)
        assert tunnel.head().status == 101
        assert wait_until(lambda: len(rig.upstream.begun) == 3)
        engaged = time.monotonic()
        rig.plane.latch.engage(kind, "test", "test")
        refused = waiting.response()
        assert time.monotonic() - engaged >= limit
        assert refused.status == 503
        stream.finish(response)
        assert not response.complete
        assert tunnel.read_raw() == b""
        assert wait_until(lambda: not rig.upstream.open_connections)
        assert counted(rig.plane, 3) == {
            ("treatment", 200, "rejected"): 1,
            ("treatment", 503, "rejected"): 1,
            ("treatment", 101, "ok"): 1,
        }


@pytest.mark.parametrize(("limit", "percentage"), [(None, TREATMENT), (0.2, 0)], ids=["finish", "control"])
def test_other_streams_go_on(limit: float | None, percentage: int) -> None:
    """`finish` leaves treatment's alone, and control's are nobody's business."""
    with open_streams(limit, percentage) as rig, rig.connect() as client:
        client.send(get())
        client.head()
        assert client.piece() == b"half"
        rig.plane.latch.engage(LatchKind.ROLLBACK, "test", "test")
        sweeps = rig.plane.worker._sweeps
        assert wait_until(lambda: rig.plane.worker._sweeps > sweeps + 6)
        assert len(rig.upstream.open_connections) == 1
        rig.upstream.begun[0].send(b"4\r\nmore\r\n")
        assert client.piece() == b"more"


def test_a_release_before_the_limit_spares_the_streams() -> None:
    """The limit is one of the rollback that holds."""
    with open_streams(0.5, TREATMENT) as rig, rig.connect() as client:
        client.send(get())
        client.head()
        assert client.piece() == b"half"
        rig.plane.latch.engage(LatchKind.ROLLBACK, "test", "test")
        sweeps = rig.plane.worker._sweeps
        assert wait_until(lambda: rig.plane.worker._sweeps > sweeps + 1)
        rig.plane.latch.release(rig.plane.latch.number)
        assert wait_until(lambda: rig.plane.worker._sweeps > sweeps + 9)
        rig.upstream.begun[0].send(b"4\r\nmore\r\n")
        assert client.piece() == b"more"


# --- a reload -------------------------------------------------------------------------------------------


def test_a_reload_does_not_close_an_open_breaker() -> None:
    """An upstream that the reload leaves as it was keeps its breaker."""
    treatment, control = Upstream(lambda exchange: exchange.reset()), Upstream(echo)
    snapshot = serving([control.url], [treatment.url], TREATMENT, upstream=EJECTING)
    plane = DataPlane(snapshot)
    try:
        for _ in range(3):
            assert ask(plane).status == 502
        plane.publish(replace(snapshot, version=2, phase="limited_production"))
        assert breaker(plane).trips == 1
        assert ask(plane).value(b"x-gateway-arm") == b"control"
    finally:
        plane.close()
        treatment.close()
        control.close()
