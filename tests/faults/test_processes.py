"""Faults 7, 11, 12, 38 and 49: the emergency on four workers, and deaths and endings in the middle of work.

What else must hold when a process dies stands in tests/processes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable

import pytest

from gateway.processes.directory import Role
from tests.faults.operating import deployment, metric, status, write
from tests.support.polling import eventually
from tests.support.processes import Gateway, Load
from tests.support.raw import Client, Exchange, Upstream

pytestmark = pytest.mark.process

GET = b"GET /%s HTTP/1.1\r\nHost: pipeline.example\r\nX-User-Id: u1\r\n\r\n"


def test_with_four_workers_the_last_treatment_request_is_sent_within_100_ms(gateways: Callable[..., Gateway]):
    """Five rounds of SIGUSR1 and release under load, over kept connections to all four workers."""
    gateway = gateways(workers=4)
    gateway.start()
    for _ in range(5):
        with Load(gateway, users=24, pause=0.002) as load:
            load.more(200)
            sent = time.monotonic()
            os.kill(gateway.pid, signal.SIGUSR1)
            eventually("control serves", lambda: load.answers["control"] > 100)
            assert load.last_treatment - sent < 0.1
            before = load.answers["treatment"]
            load.more(200)
            assert load.answers["treatment"] == before
        assert load.failures == []
        release(gateway)


def test_a_worker_that_stood_still_goes_on_by_the_emergency(gateways: Callable[..., Gateway]):
    """SIGUSR1 while the only worker is stopped, a request waiting: when it goes on, control answers."""
    gateway = gateways(workers=1)
    gateway.start()
    (worker,) = gateway.pids(Role.WORKER)
    with Client(("127.0.0.1", gateway.port)) as client:
        client.send(GET % b"")
        assert client.response().value(b"x-gateway-arm") == b"treatment"
        os.kill(worker, signal.SIGSTOP)
        client.send(GET % b"")
        os.kill(worker, signal.SIGUSR1)
        time.sleep(0.5)  # it stands still: that is what is tested
        os.kill(worker, signal.SIGCONT)
        assert client.response().value(b"x-gateway-arm") == b"control"
    assert gateway.pids(Role.WORKER) == [worker]


def release(gateway: Gateway) -> None:
    eventually("the latch is on disk", lambda: (found := gateway.latch()) and found.engaged)
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    done = gateway.run("release", "--admin", admin, "--reason", "next round")
    assert done.returncode == 0, done.stdout + done.stderr
    assert gateway.arm() == "treatment"


def test_a_worker_that_replaces_a_killed_one_serves_by_the_newest_config(gateways: Callable[..., Gateway]):
    """Booted at 100 %, reloaded to 0 %, all workers killed: nobody is sent by the boot's config."""
    gateway = gateways(extra={"deployment": deployment(100)})
    gateway.start()
    write(gateway, deployment=deployment(0))
    eventually("reloaded", lambda: gateway.arm() == "control")
    eventually(
        "in all workers", lambda: len({worker["snapshot"] for worker in status(gateway)["workers"]}) == 1
    )
    with Load(gateway) as load:
        load.more(50)
        for pid in gateway.pids(Role.WORKER):
            os.kill(pid, signal.SIGKILL)
        load.more(100)
    assert set(load.answers) == {"control"}
    assert load.refused == 0


def test_counters_survive_the_death_of_a_worker_and_are_not_doubled(running: Gateway):
    """Metrics count what was reported, once, over a killed worker and a killed control process."""
    with Load(running) as load:
        load.more(100)
    waiting_for_it = 1  # the answer by which it was seen to be ready
    eventually("all is counted", lambda: total(running) >= waiting_for_it + load.count)
    before = total(running)
    for role in (Role.WORKER, Role.CONTROL):
        (victim, *_) = running.pids(role)
        os.kill(victim, signal.SIGKILL)
        eventually("another is there", lambda r=role, v=victim: running.pids(r) and v not in running.pids(r))
        if role is Role.WORKER:  # the next one takes the newest lines of the history with it
            eventually("its death is noted", lambda: death_noted(running))
    eventually("the control process answers", lambda: served(running))
    assert total(running) == before
    more = 20
    for _ in range(more):
        assert running.get().status == 200
    eventually("the new ones are counted", lambda: total(running) >= before + more)
    assert total(running) == before + more


def death_noted(gateway: Gateway) -> bool:
    with contextlib.suppress(OSError):
        url = f"http://127.0.0.1:{gateway.admin_port}/api/v1/history"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return any(event["type"] == "worker" for event in json.load(answer))
    return False


def total(gateway: Gateway) -> float:
    return metric(gateway, "gateway_requests_total")


def served(gateway: Gateway) -> bool:
    try:
        return bool(status(gateway)["workers"])
    except OSError:
        return False


def test_a_flood_of_new_connections_survives_the_death_of_a_worker(running: Gateway):
    """kill -9 during accept: queued connections are served by the others, only open ones are cut."""
    outcomes: Counter[str] = Counter()
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
            try:
                connection.request("GET", "/", headers={"X-User-Id": "u1"})
                outcomes[str(connection.getresponse().status)] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[type(error).__name__] += 1
            finally:
                connection.close()

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        goal = outcomes["200"] + 100
        eventually("more answers", lambda g=goal: outcomes["200"] > g)
        victim = running.pids(Role.WORKER)[0]
        os.kill(victim, signal.SIGKILL)
        eventually("another worker", lambda v=victim: len(set(running.pids(Role.WORKER)) - {v}) == 2)
    over.set()
    for thread in threads:
        thread.join()
    assert outcomes["ConnectionRefusedError"] == 0
    assert sum(count for name, count in outcomes.items() if name != "200") <= 3 * len(threads)


def stream(exchange: Exchange) -> None:
    """/events streams for ever, /slow answers after a second, anything else at once."""
    exchange.body()
    if exchange.head.target == b"/events":
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            exchange.send(b"data: 1\n\n")
            time.sleep(0.05)
    if exchange.head.target == b"/slow":
        time.sleep(1.0)
    exchange.answer(b"ok")


def test_a_graceful_end_cuts_no_short_request_and_ends_streams_at_the_limit(gateways: Callable[..., Gateway]):
    """SIGTERM with slow requests and a stream open: those are answered, the stream ends at the limit."""
    upstream = Upstream(stream)
    gateway = gateways(
        upstreams={"traditional": upstream.port, "dspy": upstream.port},
        extra={"drain_timeout": "2s", "drain_delay": "500ms"},
    )
    gateway.start()
    address = ("127.0.0.1", gateway.port)
    slow = [Client(address) for _ in range(10)]
    events = Client(address)
    try:
        events.send(GET % b"events")
        assert events.head().status == 200
        for client in slow:
            client.send(GET % b"slow")
        eventually("they are there", lambda: len(upstream.begun) >= 11)
        began = time.monotonic()
        os.kill(gateway.pid, signal.SIGTERM)
        # Still accepting: others may not know yet.
        assert gateway.get().status == 200
        for client in slow:
            response = client.response()
            assert response.status == 200
        with pytest.raises(ConnectionError):
            read_to_the_end(events)
        assert 2.0 <= time.monotonic() - began < 3.5
        assert gateway.process is not None
        assert gateway.process.wait(5) == 0
    finally:
        for client in [*slow, events]:
            client.close()
        gateway.close()
        upstream.close()


def read_to_the_end(client: Client) -> None:
    while client.piece() is not None:
        pass


def test_new_connections_until_the_end_are_served_or_refused(gateways: Callable[..., Gateway]):
    """Connections opened all the time over a SIGTERM: who got in is answered; who comes late is refused."""
    gateway = gateways(extra={"drain_delay": "300ms"})
    gateway.start()
    outcomes: Counter[str] = Counter()

    def knock() -> None:
        while True:
            try:
                one = socket.create_connection(("127.0.0.1", gateway.port), timeout=5)
            except ConnectionRefusedError:
                outcomes["refused"] += 1
                return
            except ConnectionResetError:
                outcomes["reset in the queue"] += 1
                continue
            try:
                one.sendall(GET % b"")
                answer = one.recv(65536)
                outcomes["answered" if answer.startswith(b"HTTP/1.1 200") else "cut"] += 1
            except OSError:
                outcomes["cut"] += 1
            finally:
                one.close()

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually("they come", lambda: outcomes["answered"] > 100)
    assert gateway.stop() == 0
    for thread in threads:
        thread.join()
    assert outcomes["refused"] == len(threads)
    # The kernel offers no way to close a listening socket without a moment in which one more may come.
    assert outcomes["cut"] + outcomes["reset in the queue"] <= 1


def test_a_busy_admin_api_costs_the_data_plane_nothing(running: Gateway):
    """100 writes at once and 20 connections that never finish their request: no user waits or fails."""
    url = f"http://127.0.0.1:{running.admin_port}/api/v1/emergency"
    codes: Counter[int] = Counter()

    def write_once() -> None:
        body = urllib.request.Request(url, b'{"reason": "again"}', {"Content-Type": "application/json"})
        with urllib.request.urlopen(body, timeout=10) as answer:
            codes[answer.status] += 1

    loris = [socket.create_connection(("127.0.0.1", running.admin_port)) for _ in range(20)]
    for one in loris:
        one.sendall(b"POST /api/v1/emergency HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
    writers = [threading.Thread(target=write_once) for _ in range(100)]
    with Load(running) as load:
        load.more(50)
        for writer in writers:
            writer.start()
        took = []
        while any(writer.is_alive() for writer in writers):
            began = time.monotonic()
            assert running.get().status == 200
            took.append(time.monotonic() - began)
        load.more(50)
    for one in loris:
        one.close()
    assert codes == {200: 100}
    assert load.failures == []
    assert statistics.median(took) < 0.5
