"""Which users were here in the last minutes: a shared page that identifies each user's first request.

A user's hash selects a cell. The cell holds the number of the ten-minute period in which it was last
marked. All workers share the page, so a user counts once, whichever workers serve it. Nothing clears it
and nothing locks it: a lost race costs at most a second mark, and two users that share a cell count as
one.

It knows hashes, not users, and not what a mark is used for; see `model.ticks.Series`.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from gateway.model.ticks import FIRST_SECONDS

CELLS: Final = 2**20
_MASK: Final = CELLS - 1
_NUMBERS = 255
"""Stretches before their numbers come again. Who was last here exactly so many stretches ago (42 hours) is
taken for marked; that depends on no arm and on no outcome."""


class UserMarks:
    """The page, as one process has mapped it. `follow` must be told the time before and now and then."""

    __slots__ = ("_cells", "_stretch", "fd")

    def __init__(self, fd: int) -> None:
        """Map the page behind a descriptor from `create`, which stays the caller's."""
        self.fd = fd
        self._cells = mmap.mmap(fd, CELLS)
        self._stretch = 0

    @classmethod
    def create(cls) -> UserMarks:
        """A fresh page, nobody marked, in memory that no file system backs."""
        fd = os.memfd_create("gateway-marks", os.MFD_CLOEXEC)
        os.ftruncate(fd, CELLS)
        return cls(fd)

    def __repr__(self) -> str:
        return f"<UserMarks stretch={self._stretch}>"

    def follow(self, now: float) -> None:
        """Mark for the stretch that holds `now`, in Unix seconds."""
        self._stretch = int(now // FIRST_SECONDS) % _NUMBERS + 1

    def mark(self, user: int) -> bool:
        """Mark a user by the hash of the id; True if that is the first mark in this stretch."""
        cell = user & _MASK
        if self._cells[cell] == self._stretch:
            return False
        self._cells[cell] = self._stretch
        return True
