"""Which users were here in the last minutes: a shared page that identifies each user's first request.

Time is divided into periods of ten minutes, for each user at a moment of the user's own: with one moment for
everybody, all who come again and again would be first within seconds of it, and nobody after that. Users
are spread by their hashes, evenly and for good. So an edge moves through their positions once in a period,
and those whom it has passed are in their next one.

A position and the kind of the request select a cell. The cell holds the number of the period in which it
was last marked. All workers share the page, so a user counts once, whichever workers serve it. Nothing clears
it and nothing locks it: a lost race costs at most a second mark, and two users that share a cell count as
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
_NUMBERS: Final = 255
"""Periods before their numbers come again. Who was last here exactly so many periods ago (42 hours) is
taken for marked; that depends on no arm and on no outcome."""


class UserMarks:
    """The page, as one process has mapped it. `follow` must be told the time before and now and then."""

    __slots__ = ("_cells", "_edge", "_following", "_former", "_period", "fd")

    def __init__(self, fd: int) -> None:
        """Map the page behind a descriptor from `create`, which stays the caller's; -1 for one of its own."""
        self.fd = fd
        self._cells = mmap.mmap(fd, CELLS)
        self.follow(0.0)

    @classmethod
    def create(cls) -> UserMarks:
        """A fresh page, nobody marked, in memory that no file system backs."""
        fd = os.memfd_create("gateway-marks", os.MFD_CLOEXEC)
        os.ftruncate(fd, CELLS)
        return cls(fd)

    def __repr__(self) -> str:
        return f"<UserMarks period={self._period} edge={self._edge}>"

    def follow(self, now: float) -> None:
        """Mark for the periods that hold `now`, in Unix seconds."""
        period = int(now // FIRST_SECONDS)
        self._edge = int(now % FIRST_SECONDS * CELLS / FIRST_SECONDS) + 1
        self._former = (period - 1) % _NUMBERS + 1
        self._period = period % _NUMBERS + 1
        self._following = (period + 1) % _NUMBERS + 1

    def mark(self, user: int, kind: int = 0) -> bool:
        """Mark a user by the hash of the id; True if that is the first mark in the user's period.

        Requests of each `kind`, a number below CELLS, are marked apart from those of others.
        """
        position = user & _MASK
        if position < self._edge:
            period, following = self._period, self._following
        else:
            period, following = self._former, self._period
        cell = position ^ kind
        known = self._cells[cell]
        # Of the following period, if a worker marked it that was told the time later.
        if known == period or known == following:  # noqa: PLR1714, SIM109  # makes no tuple
            return False
        self._cells[cell] = period
        return True
