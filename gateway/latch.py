"""The latch: one shared page that sends everything to control, and its durable copy.

Every process of a gateway maps the same page. Engaging it is one store of a counter, which each worker
sees on its next request; no file system, socket or lock is involved. The latch is engaged while the
engagement number differs from the released number. A release names the engagement that it lifts, so it
can never lift a later one. A process that was stopped between reading the counter and writing it can only
engage, never release.

It does not know what follows an engagement; the control process handles that by the number.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.model.latch import LatchKind

__all__ = [
    "CONTROL_SLOT",
    "DISENGAGED",
    "HEARTBEAT_SLOTS",
    "LATCH_FILE",
    "DurableLatch",
    "LatchKind",
    "LatchPage",
    "LatchState",
]

_PAGE_BYTES = 4096
_MAGIC = 0x67617465_77617931
_WORD_MAGIC, _WORD_ENGAGED, _WORD_RELEASED, _WORD_KIND, _WORD_TIME, _WORD_DRAINING = range(6)
_WORD_HEARTBEATS = 16
_TEXT_OFFSET = 2048
_TEXT_BYTES = 2000
CONTROL_SLOT = 0
"""Heartbeat slot of the control process; worker slot n has heartbeat slot n + 1."""
HEARTBEAT_SLOTS = 201
"""One for the control process, two for each of the workers that a gateway may have."""

LATCH_FILE = "latch"
_LOCK_FILE = "latch.lock"
_MAX_NUMBER = 2**62  # what a word of the page holds, and an engagement or two on top
_MAX_TIME = 2.0**33  # seconds of Unix time whose nanoseconds a word holds
_LOCK_PATIENCE = 1.0  # a stopped process may hold the lock; a late write is better than none


_KINDS = tuple(LatchKind)


@dataclass(frozen=True, slots=True)
class LatchState:
    """What the latch says. `number` counts engagements for ever; `since` is Unix time in seconds."""

    number: int
    released: int
    kind: LatchKind
    reason: str
    operator: str
    since: float

    @property
    def engaged(self) -> bool:
        """True while everything goes to control."""
        return self.number != self.released


DISENGAGED = LatchState(0, 0, LatchKind.EMERGENCY, "", "", 0.0)


class LatchPage:
    """The shared page. `words` is the raw view: `words[1] != words[2]` is the hot path's whole test."""

    __slots__ = ("_map", "fd", "words")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, _PAGE_BYTES)
        self.words = memoryview(self._map).cast("Q")
        if self.words[_WORD_MAGIC] != _MAGIC:
            raise ValueError(f"file descriptor {fd} is not a latch page")

    @classmethod
    def create(cls) -> LatchPage:
        """A fresh page, disengaged, in memory that no file system backs."""
        fd = os.memfd_create("gateway-latch", os.MFD_CLOEXEC)
        os.ftruncate(fd, _PAGE_BYTES)
        os.pwrite(fd, _MAGIC.to_bytes(8, "little"), 0)
        return cls(fd)

    def __repr__(self) -> str:
        return f"<LatchPage {self.state()}>"

    @property
    def engaged(self) -> bool:
        """True while everything goes to control."""
        return self.words[_WORD_ENGAGED] != self.words[_WORD_RELEASED]

    @property
    def number(self) -> int:
        """The engagement number: grows by one with every engagement, also while engaged."""
        return self.words[_WORD_ENGAGED]

    @property
    def released(self) -> int:
        """The newest engagement that an operator lifted."""
        return self.words[_WORD_RELEASED]

    @property
    def kind(self) -> LatchKind:
        """Why it was engaged last."""
        return _KINDS[self.words[_WORD_KIND] % len(_KINDS)]

    def engage(self, kind: LatchKind, reason: str, operator: str) -> int:
        """Flip everything to control and return the engagement number. Safe in a signal handler.

        The flip comes first and the description after it. While engaged, a repetition is counted,
        and an emergency takes over the description of anything milder.
        """
        words = self.words
        was_engaged = self.engaged
        number = words[_WORD_ENGAGED] + 1
        words[_WORD_ENGAGED] = number
        if not was_engaged or (kind is LatchKind.EMERGENCY and words[_WORD_KIND] != _KINDS.index(kind)):
            words[_WORD_KIND] = _KINDS.index(kind)
            words[_WORD_TIME] = time.time_ns()
            self._write_text(reason, operator)
        return number

    def release(self, number: int) -> bool:
        """Lift engagement `number`; False (and still engaged) if a newer one came meanwhile."""
        if number == self.number:
            self.words[_WORD_RELEASED] = number
        return not self.engaged

    def restore(self, state: LatchState) -> None:
        """Take over what the durable copy said, at start, before any other process maps the page."""
        self.words[_WORD_ENGAGED] = state.number
        self.words[_WORD_RELEASED] = state.released
        self.words[_WORD_KIND] = _KINDS.index(state.kind)
        self.words[_WORD_TIME] = int(state.since * 1e9)
        self._write_text(state.reason, state.operator)

    def state(self) -> LatchState:
        """The whole state as a value."""
        text = bytes(self._map[_TEXT_OFFSET : _TEXT_OFFSET + _TEXT_BYTES]).split(b"\0", 2)
        reason, operator = (part.decode(errors="replace") for part in text[:2])
        since = self.words[_WORD_TIME] / 1e9
        return LatchState(self.number, self.released, self.kind, reason, operator, since)

    def _write_text(self, reason: str, operator: str) -> None:
        half = _TEXT_BYTES // 2 - 1
        parts = (text.replace("\0", " ").encode()[:half] for text in (reason, operator))
        text = b"\0".join(parts) + b"\0"
        self._map[_TEXT_OFFSET : _TEXT_OFFSET + len(text)] = text

    @property
    def draining(self) -> bool:
        """True once the gateway was told to stop: not ready, though still serving."""
        return bool(self.words[_WORD_DRAINING])

    def start_draining(self) -> None:
        """Readiness off."""
        self.words[_WORD_DRAINING] = 1

    def beat(self, slot: int) -> None:
        """Say that the process in this heartbeat slot is alive."""
        self.words[_WORD_HEARTBEATS + slot] = time.monotonic_ns()

    def last_beat(self, slot: int) -> float:
        """Monotonic seconds of the slot's last heartbeat; 0.0 if there was none."""
        return self.words[_WORD_HEARTBEATS + slot] / 1e9

    def clear_beat(self, slot: int) -> None:
        """Forget the slot's heartbeat, before a new process takes it."""
        self.words[_WORD_HEARTBEATS + slot] = 0


class DurableLatch:
    """The latch's copy in the state directory: what makes it survive a restart."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / LATCH_FILE

    def load(self) -> LatchState | None:
        """The state on disk, None if there never was one. Unreadable or corrupt counts as engaged."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return _broken(f"{self.path} cannot be read: {error.strerror}")
        try:
            return _parse(raw)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return _broken(f"{self.path} is corrupt: {error}")

    def save(self, page: LatchPage, released: int | None = None) -> None:
        """Write the page's state durably; raises OSError if the disk refuses.

        `released` is written in place of the page's own number: a release is on disk before it
        takes effect, so that a crash in between leaves the latch engaged.
        """
        with self._lock():
            state = page.state()
            document = {
                "version": 1,
                "number": state.number,
                "released": state.released if released is None else released,
                "kind": state.kind.value,
                "reason": state.reason,
                "operator": state.operator,
                "since": state.since,
            }
            self.write((json.dumps(document) + "\n").encode())

    def write(self, data: bytes) -> None:
        """Replace the file atomically: temporary file, fsync, rename, fsync of the directory."""
        temporary = self._directory / f".{LATCH_FILE}.{os.getpid()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        fd = os.open(self._directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            give_up = time.monotonic() + _LOCK_PATIENCE
            while time.monotonic() < give_up:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.005)
            yield
        finally:
            os.close(fd)


def _parse(raw: bytes) -> LatchState:
    document = json.loads(raw)
    if document["version"] != 1:
        raise ValueError(f"version {document['version']!r}; expected 1")
    number, released = int(document["number"]), int(document["released"])
    since = float(document["since"])
    if not 0 <= released <= number <= _MAX_NUMBER:
        raise ValueError("it released engagements that never were, or counts beyond all measure")
    if not 0 <= since <= _MAX_TIME:
        raise ValueError(f"it was engaged at {since}")
    return LatchState(
        number,
        released,
        LatchKind(document["kind"]),
        str(document["reason"]),
        str(document["operator"]),
        since,
    )


def _broken(reason: str) -> LatchState:
    # Numbers count by ones, so the clock is ahead of every number that was ever worked off.
    now = time.time()
    return LatchState(int(now), 0, LatchKind.CORRUPT, reason, "gateway", now)
