"""Faults 32 and 33: the machine runs out of local ports, or the gateway out of descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.model.observation import EndpointReport
from gateway.model.snapshot import OutlierDetection
from gateway.processes.directory import Role
from gateway.proxy.resolver import Resolver
from tests.faults.counting import counted
from tests.faults.places import can_unshare, descriptors, processor_seconds, with_descriptors
from tests.support.dataplane import Rig
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load
from tests.support.raw import Client, Exchange, Upstream

pytestmark = pytest.mark.socket

GET = b"GET /%s HTTP/1.1\r\nHost: pipeline.example\r\nX-User-Id: u1\r\n\r\n"


@contextlib.contextmanager
def crowd(port: int, size: int) -> Iterator[list[socket.socket]]:
    """Connections that are opened all at once and say nothing."""
    sockets = [socket.socket() for _ in range(size)]
    try:
        for one in sockets:
            one.setblocking(False)
            assert one.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS)
        yield sockets
    finally:
        for one in sockets:
            one.close()


def stream(exchange: Exchange) -> None:
    """An event stream with an event every 20 ms; a plain answer for any other path."""
    exchange.body()
    if exchange.head.target != b"/events":
        exchange.answer(b"ok")
        return
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        exchange.send(b"9\r\ndata: 1\n\n\r\n")
        time.sleep(0.02)


@pytest.fixture
def streaming() -> Iterator[Upstream]:
    upstream = Upstream(stream)
    yield upstream
    upstream.close()


@pytest.mark.process
def test_without_descriptors_streams_live_and_the_emergency_works(
    gateways: Callable[..., Gateway], streaming: Upstream
):
    """256 descriptors, 1,000 connections: no spinning, streams go on, SIGUSR1 works, and it ends well."""
    gateway = gateways(workers=1, upstreams={"traditional": streaming.port, "dspy": streaming.port})
    gateway.start(prefix=with_descriptors(256))
    (worker,) = gateway.pids(Role.WORKER)
    address = ("127.0.0.1", gateway.port)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Client(address)) for _ in range(20)]
        for client in streams:
            client.send(GET % b"events")
            assert client.head().status == 200
        with crowd(gateway.port, 1000):
            began, used = time.monotonic(), processor_seconds(worker)
            while time.monotonic() - began < 2.0:
                for client in streams:
                    assert client.piece()
            assert processor_seconds(worker) - used < 0.5 * (time.monotonic() - began)
            assert descriptors(worker) <= 256
            os.kill(gateway.pid, signal.SIGUSR1)
            eventually("the latch is on disk", lambda: (found := gateway.latch()) and found.engaged)
            assert gateway.run("status", "--admin", f"http://127.0.0.1:{gateway.admin_port}").returncode in (
                0,
                1,
            )
        eventually("it serves again", lambda: serves(gateway))
        assert gateway.arm() == "control"
        for client in streams:
            assert client.piece()
    assert gateway.pids(Role.WORKER) == [worker]
    assert gateway.events("fewer connections than configured")


def serves(gateway: Gateway) -> bool:
    try:
        return gateway.get().status == 200
    except OSError:
        return False


@pytest.mark.process
def test_connections_above_the_limit_are_told_so_and_cost_the_others_nothing(
    gateways: Callable[..., Gateway], streaming: Upstream
):
    """More clients than the limit, each with a request: 503 with Retry-After, and those inside are served."""
    gateway = gateways(
        workers=1,
        upstreams={"traditional": streaming.port, "dspy": streaming.port},
        extra={"limits": {"connections": 20}},
    )
    gateway.start()
    address = ("127.0.0.1", gateway.port)
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(Client(address)) for _ in range(20)]
        for client in inside:
            client.send(GET % b"")
            assert client.response().status == 200
        outside = [stack.enter_context(Client(address)) for _ in range(20)]
        for client in outside:
            client.send(GET % b"")
            response = client.response()
            assert response.status == 503
            assert response.value(b"retry-after")
        for client in inside:
            client.send(GET % b"")
            assert client.response().status == 200
    eventually("there is room again", lambda: serves(gateway))


@pytest.mark.process
@pytest.mark.skipif(not can_unshare("--mount"), reason="no right to make a mount table here")
def test_a_state_directory_that_turns_read_only_costs_no_request(gateways: Callable[..., Gateway]):
    """Under the running gateway, then SIGUSR1: it holds, is said not to be durable, and is once it can be."""
    gateway = gateways(workers=1)
    gateway.start(prefix=["unshare", "--mount"])
    enter = ["nsenter", "--target", str(gateway.pid), "--mount"]
    with Load(gateway) as load:
        load.more(50)
        subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", "ro", "none", gateway.state], check=True)
        os.kill(gateway.pid, signal.SIGUSR1)
        eventually("control serves", lambda: load.answers["control"] > 50)
        eventually("it says so", lambda: gateway.events("latch not durable"))
        found = gateway.latch()
        assert found is not None
        assert not found.engaged
        subprocess.run([*enter, "umount", gateway.state], check=True)
        eventually("the latch is on disk", lambda: (found := gateway.latch()) and found.engaged)
        load.more(50)
    assert load.failures == []


def endpoints(rig: Rig) -> list[EndpointReport]:
    return [report for pool in rig.plane.worker._context.plan.pools.values() for report in pool.report()]


@pytest.mark.parametrize("shortage", [errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENOBUFS])
def test_a_shortage_here_is_no_fault_of_the_upstream_s(monkeypatch: pytest.MonkeyPatch, shortage: int):
    """No port, no descriptor, no memory: 503 at once, no endpoint ejected, no failure of an arm."""
    connect = Resolver.connect
    short = True

    async def refuse(self: Resolver, factory: Callable[[], object]) -> object:
        if short:
            raise OSError(shortage, os.strerror(shortage))
        return await connect(self, factory)  # type: ignore[arg-type]

    monkeypatch.setattr(Resolver, "connect", refuse)
    with (
        Rig(upstream={"outlier_detection": OutlierDetection(1, 30.0, False)}) as rig,
        rig.connect() as client,
    ):
        for _ in range(5):
            client.send(GET % b"")
            assert client.response().status == 503
        assert rig.plane.call(lambda: [one.healthy for one in endpoints(rig)]) == [True, True]
        short = False
        client.send(GET % b"")
        assert client.response().status == 200
        assert counted(rig.plane, 6) == {("control", 503, "rejected"): 5, ("control", 200, "ok"): 1}
