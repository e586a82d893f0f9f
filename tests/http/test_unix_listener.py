"""A proxy in front of the gateway on a unix socket: what TCP tells about a client is not there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.latch import LatchPage
from gateway.link.memory import MemoryLink
from gateway.marks import UserMarks
from gateway.proxy.worker import Worker
from tests.support.raw import PATIENCE, Upstream, echo
from tests.support.serving import serving

pytestmark = pytest.mark.socket


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with contextlib.closing(Upstream(echo, name="control")) as upstream:
        yield upstream


@pytest.mark.parametrize(
    ("sent", "chain"),
    [(b"X-Forwarded-For: 1.2.3.4\r\n", [b"1.2.3.4"]), (b"", [])],
    ids=["a chain", "no chain"],
)
async def test_the_chain_of_addresses_is_passed_on_as_it_came(
    upstream: Upstream, tmp_path: Path, sent: bytes, chain: list[bytes]
) -> None:
    """There is no address to append, which is no reason to lose those before."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        worker = Worker(
            MemoryLink(serving([upstream.url], [upstream.url])),
            LatchPage.create(),
            UserMarks.create(),
            slot=0,
            listeners=[listener],
        )
        await worker.start()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + sent + b"\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        writer.close()
        worker.abort()
        await worker.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert upstream.heads[-1].values(b"x-forwarded-for") == chain
