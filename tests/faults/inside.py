"""Runs inside a network namespace of its own: `python -m tests.faults.inside ports|lossy`.

The parent test started it through `unshare --net`; it prints one JSON object with what it saw, and
leaves the judgement to the test.

A lossy link is made without netem, which few kernels of containers have: two network namespaces, a
TUN device in each, and a thread that carries packets between the two, drops, delays and doubles some.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.polling import eventually, wait_until
from tests.support.processes import PATIENCE, Gateway
from tests.support.raw import Client, Exchange, Upstream

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
PORTS = 100
"""Local ports that there are; the kernel needs some for the health of others."""
GATEWAY_SIDE, UPSTREAM_SIDE = "10.77.0.1", "10.77.0.2"
SLOW_DIAL = "40s"
"""The kernel sends a lost SYN again after 1, 3, 7, 15 and 31 s: the default of 1 s allows for none."""


def sh(command: str) -> None:
    """Run a command of the shell."""
    subprocess.run(command, shell=True, check=True)


@contextlib.contextmanager
def serving(script: Callable[[Exchange], None], host: str = "127.0.0.1", **extra: object):  # type: ignore[no-untyped-def]
    """An upstream with this script on `host`, and a gateway of one worker before it."""
    upstream = Upstream(script, address=(host, 0))
    with tempfile.TemporaryDirectory() as directory:
        ports = {"traditional": upstream.port, "dspy": upstream.port}
        gateway = Gateway(Path(directory), ports, workers=1, upstream_host=host, extra=dict(extra))
        gateway.start()
        try:
            yield upstream, gateway
        finally:
            gateway.close()
            upstream.close()


def ports() -> dict[str, object]:
    """500 requests at once, and 100 local ports for all of them towards the upstream."""
    sh("ip link set lo up && ip addr add 127.9.9.9/8 dev lo")
    gate = threading.Event()

    def hold(exchange: Exchange) -> None:
        exchange.body()
        if exchange.head.target == b"/hold":
            gate.wait(2 * PATIENCE)
        exchange.answer(b"ok")

    with serving(hold) as (upstream, gateway):
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"20000 {20000 + PORTS - 1}")
        clients = []
        for number in range(500):
            # From an address and a port of its own: the clients must not use up the ports that are tested.
            client = Client(("127.0.0.1", gateway.port), source=("127.9.9.9", 40000 + number))
            clients.append(client)
        for client in clients:
            client.send(b"GET /hold HTTP/1.1\r\nHost: a.example\r\n\r\n")

        def waiting() -> list[Client]:
            return [client for client in clients if not readable(client)]

        told = wait_until(lambda: len(waiting()) <= len(upstream.begun), PATIENCE, interval=0.02)
        held = len(waiting())
        gate.set()
        statuses = Counter(client.response().status for client in clients)
        again = clients[-1]
        again.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        recovered = again.response().status
        connections = len(upstream.connections)
        for number in range(200):
            clients[number % 50].send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            clients[number % 50].response()
        for client in clients:
            client.close()
        return {
            "statuses": statuses,
            "held_when_all_others_were_told": held if told else None,
            "recovered": recovered,
            "dialled_again": len(upstream.connections) - connections,
        }


def readable(client: Client) -> bool:
    return bool(select.select([client.socket], [], [], 0.0)[0])


class LossyLink:
    """Two TUN devices, each in a namespace of its own, and the wire between them."""

    def __init__(self, loss: float, doubled: float, delay: float) -> None:
        self._loss, self._doubled, self._delay = loss, doubled, delay
        self._random = random.Random(48)
        self.carried: Counter[str] = Counter()
        self.near = self._device("near", GATEWAY_SIDE, UPSTREAM_SIDE)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._enter_new()
        self.far = self._device("far", UPSTREAM_SIDE, GATEWAY_SIDE)
        self._far_home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._enter(self._home)
        threading.Thread(target=self._carry, daemon=True).start()

    @staticmethod
    def _libc(name: str, *args: int) -> None:
        if getattr(ctypes.CDLL(None, use_errno=True), name)(*args):
            raise OSError(ctypes.get_errno(), name)

    def _enter_new(self) -> None:
        self._libc("unshare", _CLONE_NEWNET)

    def _enter(self, namespace: int) -> None:
        self._libc("setns", namespace, _CLONE_NEWNET)

    @contextlib.contextmanager
    def far_side(self):  # type: ignore[no-untyped-def]
        """What this thread opens meanwhile is on the upstream's side."""
        self._enter(self._far_home)
        try:
            yield
        finally:
            self._enter(self._home)

    @staticmethod
    def _device(name: str, address: str, peer: str) -> int:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN_NO_PI))
        sh(f"ip link set lo up && ip addr add {address} peer {peer} dev {name} && ip link set {name} up")
        return device

    def _carry(self) -> None:
        """Carry packets for ever: each is lost, doubled or late by chance."""
        on_the_way: list[tuple[float, int, int, bytes]] = []
        count = 0
        other = {self.near: self.far, self.far: self.near}
        while True:
            patience = 0.05 if not on_the_way else max(0.0, on_the_way[0][0] - time.monotonic())
            for device in select.select([self.near, self.far], [], [], min(patience, 0.05))[0]:
                packet = os.read(device, 65536)
                if self._random.random() < self._loss:
                    self.carried["lost"] += 1
                    continue
                for _ in range(1 + (self._random.random() < self._doubled)):
                    count += 1
                    late = time.monotonic() + self._random.uniform(0.5, 1.5) * self._delay
                    heapq.heappush(on_the_way, (late, count, other[device], packet))
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(on_the_way)
                with contextlib.suppress(BlockingIOError):
                    os.write(device, packet)
                self.carried["carried"] += 1


def lossy() -> dict[str, object]:
    """Bodies both ways over a link that loses 5 %, doubles 2 % and reorders; every body by its hash."""
    link = LossyLink(loss=0.05, doubled=0.02, delay=0.003)

    def mirror(exchange: Exchange) -> None:
        """Answer with a body that is told by the request's, and so by its hash."""
        exchange.body()
        seed = exchange.digest.encode()
        exchange.answer(seed * 1000)

    answered: list[tuple[int, bool]] = []
    with link.far_side():
        upstream = Upstream(mirror, address=(UPSTREAM_SIDE, 0))
    with tempfile.TemporaryDirectory() as directory:
        endpoint = f"http://{UPSTREAM_SIDE}:{upstream.port}"
        pipeline = {"endpoints": [endpoint], "timeouts": {"connect": SLOW_DIAL}}
        both = {"upstreams": {"traditional": pipeline, "dspy": pipeline}}
        gateway = Gateway(Path(directory), {}, workers=1, extra=both)
        gateway.start(ready=False)
        eventually("it answers", lambda: answers(gateway))

        def use(user: int) -> None:
            chance = random.Random(user)
            with Client(("127.0.0.1", gateway.port)) as client:
                client.socket.settimeout(60)
                for _ in range(10):
                    body = chance.randbytes(chance.randrange(60_000))
                    head = b"POST / HTTP/1.1\r\nHost: a\r\nX-User-Id: %d\r\nContent-Length: %d\r\n\r\n"
                    client.send(head % (user, len(body)) + body)
                    response = client.response(b"POST")
                    whole = response.body == hashlib.sha256(body).hexdigest().encode() * 1000
                    answered.append((response.status, whole))

        threads = [threading.Thread(target=use, args=(user,)) for user in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gateway.close()
    upstream.close()
    return {
        "statuses": Counter(status for status, _ in answered),
        "wrong": sum(not whole for _, whole in answered),
        "link": link.carried,
    }


def answers(gateway: Gateway) -> bool:
    try:
        return gateway.get().status == 200
    except OSError:
        return False


if __name__ == "__main__":
    print(json.dumps({"ports": ports, "lossy": lossy}[sys.argv[1]]()))
