"""Lines of the history that are not on disk yet; the supervisor keeps them meanwhile.

Without this, a full disk and a killed control process together would lose who did what. Usually a line
waits only for milliseconds, and then nothing is kept. It does not know what a line says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

from gateway.control.store.api import Entry, Store

LOOK_INTERVAL = 0.25
"""Seconds between two looks: a line that came later than the last one is lost with the process."""
MOST_LINES = 1000
"""Lines that are kept, the newest: twice what the admin API shows."""


class UnwrittenLines:
    """Has what waits in a store kept. `run` looks for ever."""

    def __init__(self, store: Store, keep: Callable[[bytes], None]) -> None:
        """`keep` replaces what was kept before."""
        self._store = store
        self._keep = keep
        self._kept: list[int] | None = None  # what an earlier process had kept is not known by number

    def __repr__(self) -> str:
        return f"<UnwrittenLines kept={len(self._kept or ())}>"

    async def run(self) -> None:
        """For ever: look."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_INTERVAL)

    def look(self) -> None:
        """Have the lines kept that wait now, where they are others than at the last look."""
        waiting = self._store.unwritten[-MOST_LINES:]
        numbers = [number for number, _ in waiting]
        if numbers != self._kept:
            self._kept = numbers
            self._keep(pack(line for _, line in waiting))


async def hand_back(store: Store, lines: Iterable[Entry]) -> None:
    """Add the lines that an earlier process could not write, unless the disk took them after all.

    To be called before any other line is added. Raises StoreError where the disk cannot say what it has.
    """
    lines = list(lines)
    written = {entry for _, entry in await store.newest(MOST_LINES)} if lines else set()
    for line in lines:
        if line not in written:
            store.append(line)


def pack(lines: Iterable[Entry]) -> bytes:
    """Lines as bytes."""
    return json.dumps([[line.at, line.type, line.body] for line in lines]).encode()


def unpack(kept: bytes) -> list[Entry]:
    """Undo `pack`. Raises ValueError or TypeError on foreign bytes."""
    return [Entry(float(at), str(kind), str(body)) for at, kind, body in json.loads(kept)]
