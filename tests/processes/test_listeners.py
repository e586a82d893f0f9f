"""Listening sockets: one gateway an address, and a successor beside orphans."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.processes.listeners import AddressInUse, Listener, Sharing

pytestmark = pytest.mark.socket

Open = Callable[..., Listener]


@pytest.fixture
def listen() -> Iterator[Open]:
    made: list[Listener] = []

    def listen(address: str, sharing: Sharing = Sharing.EXCLUSIVE) -> Listener:
        made.append(Listener(address, sharing))
        return made[-1]

    yield listen
    for listener in made:
        listener.close()


def connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(address.removeprefix("unix:"))
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=2)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", ":0"])
def test_a_tcp_address_is_listened_on(listen: Open, address: str):
    """Numbers, names, IPv6; port 0 becomes a real one, which the listener names."""
    if address.startswith("[") and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    listener = listen(address)
    assert not listener.address.endswith(":0")
    assert not listener.socket.getblocking()
    connect(listener.address).close()


def test_an_address_in_use_is_refused(listen: Open):
    """A second listener on the address is an error, though the first one allows sharing later."""
    first = listen("127.0.0.1:0")
    with pytest.raises(AddressInUse):
        listen(first.address)


def test_a_foreign_listener_is_respected(listen: Open):
    """A program that knows nothing of us holds the port: refused, beside orphans or not."""
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        address = f"127.0.0.1:{foreign.getsockname()[1]}"
        for sharing in Sharing:
            with pytest.raises(AddressInUse):
                listen(address, sharing)


def test_a_successor_listens_beside_orphans(listen: Open):
    """Both sockets take connections, and after the first is gone all go to the second."""
    first = listen("127.0.0.1:0")
    second = listen(first.address, Sharing.BESIDE_ORPHANS)
    first.close()
    for _ in range(20):
        connect(second.address).close()


def test_an_address_that_cannot_be_had_is_an_error(listen: Open):
    """An address of another machine."""
    with pytest.raises(OSError, match="assign"):
        listen("192.0.2.1:0")


def test_a_unix_socket_is_listened_on_and_goes_with_its_listener(listen: Open, tmp_path: Path):
    """The file is there while somebody listens."""
    listener = listen(f"unix:{tmp_path}/s")
    connect(listener.address).close()
    listener.close()
    assert not (tmp_path / "s").exists()


def test_a_stale_unix_socket_is_replaced(listen: Open, tmp_path: Path):
    """What a killed gateway left behind stops nobody."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    connect(listen(f"unix:{tmp_path}/s").address).close()


def test_a_unix_socket_in_use_is_refused(listen: Open, tmp_path: Path):
    """Somebody answers there."""
    listener = listen(f"unix:{tmp_path}/s")
    with pytest.raises(AddressInUse):
        listen(listener.address)
    connect(listener.address).close()


def test_a_file_that_is_no_socket_is_never_replaced(listen: Open, tmp_path: Path):
    """A slip in the config must not cost somebody's file."""
    (tmp_path / "s").write_text("precious")
    with pytest.raises(FileExistsError):
        listen(f"unix:{tmp_path}/s")
    assert (tmp_path / "s").read_text() == "precious"


def test_a_successor_takes_the_unix_path_over_and_keeps_it(listen: Open, tmp_path: Path):
    """The path is never without a socket; the old listener's end does not take the new one's away."""
    first = listen(f"unix:{tmp_path}/s")
    second = listen(first.address, Sharing.BESIDE_ORPHANS)
    first.close()
    assert stat.S_ISSOCK(os.stat(tmp_path / "s").st_mode)
    connect(second.address).close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s"]
