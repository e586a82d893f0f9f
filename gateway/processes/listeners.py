"""Listening sockets: the supervisor binds them once and passes them to the processes that serve.

An address that another program uses is refused. A supervisor that takes over from a dead one
binds beside the sockets that the orphaned workers still hold.

It does not know what is served on an address.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from enum import Enum, auto

BACKLOG = 4096  # the kernel caps it by net.core.somaxconn
UNSENT_BYTES = 262_144
"""What the kernel holds for a client that does not read, beyond what is on its way: else megabytes."""
_UNIX = "unix:"


class Sharing(Enum):
    """Whether an address may already be listened on."""

    EXCLUSIVE = auto()
    BESIDE_ORPHANS = auto()


class AddressInUse(Exception):
    """Another program listens on the address."""


class Listener:
    """A listening socket and the address that it really has."""

    def __init__(self, address: str, sharing: Sharing) -> None:
        """Bind and listen. Raises AddressInUse, or OSError if the address cannot be had at all."""
        self._inode: tuple[int, int] | None = None
        self._path = ""
        try:
            if address.startswith(_UNIX):
                self._path = address.removeprefix(_UNIX)
                self.socket = _listen_unix(self._path, sharing)
                self._inode = _inode(self._path)
                self.address = address
            else:
                self.socket = _listen_tcp(address, sharing)
                self.address = _name(self.socket)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(address) from None
            raise
        self.socket.setblocking(False)

    def __repr__(self) -> str:
        return f"<Listener {self.address}>"

    def close(self) -> None:
        """Stop listening here; a unix socket's file goes too, unless it is another's by now."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self._inode is not None and _inode(self._path) == self._inode:
                os.unlink(self._path)


def _listen_tcp(address: str, sharing: Sharing) -> socket.socket:
    host, _, port = address.rpartition(":")
    # Bytes, because a text host name makes the socket module load its IDNA tables (1 MB).
    name = host.strip("[]").encode() or b"0.0.0.0"  # what ":8080" means everywhere
    family, kind, protocol, _, target = socket.getaddrinfo(
        name, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sharing is Sharing.BESIDE_ORPHANS:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        listener.bind(target)
        listener.listen(BACKLOG)
        # Only now: set before the bind, it would let a second gateway take half the connections.
        # A later supervisor needs it to bind beside workers that outlived this one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_unix(path: str, sharing: Sharing) -> socket.socket:
    if sharing is Sharing.EXCLUSIVE and _answers(path):
        raise OSError(errno.EADDRINUSE, "somebody listens on it", path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f"{path}.{os.getpid()}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        listener.bind(temporary)
        listener.listen(BACKLOG)
        # Renamed over: whoever connects finds the old socket or the new one, never none.
        os.rename(temporary, path)
    except BaseException:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return listener


def _answers(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "it is there and no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True  # its backlog is full: busy, but there
    return True


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _name(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
