"""An upstream that is there and then is not, again and again."""

from __future__ import annotations

import socket
import threading

from tests.support.raw import PATIENCE, Upstream, echo


class Flapping:
    """An upstream that listens for a while and does not for a while, on one port.

    With `steady` it listens without a break until `begin`.
    """

    def __init__(self, seconds: float, *, steady: bool = False) -> None:
        self._seconds = seconds
        self._end = threading.Event()
        self._begun = threading.Event()
        if not steady:
            self._begun.set()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = probe.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._thread = threading.Thread(target=self._flap, daemon=True)
        self._thread.start()

    def _flap(self) -> None:
        while not self._end.is_set():
            upstream = Upstream(echo, address=self.address)
            self._begun.wait()
            self._end.wait(self._seconds)
            upstream.close()
            self._end.wait(self._seconds)

    def begin(self) -> None:
        """Flap from now on."""
        self._begun.set()

    def close(self) -> None:
        """End it."""
        self._end.set()
        self._begun.set()
        self._thread.join(PATIENCE)
