"""Log lines: one JSON object per line, to stderr, written by a separate thread.

Logging never waits. Lines go through a bounded queue; if it is full because nobody reads the pipe, the line
is counted and dropped. Audit lines ignore the level, because a quiet log level must not hide a rollback.

It does not know the format of the access log; `LineWriter` writes that too.
"""

from __future__ import annotations

import enum
import json
import os
import queue
import select
import threading
import time

QUEUE_LINES = 10_000
_BATCH_BYTES = select.PIPE_BUF
"""What a pipe takes in one piece: several processes write to it, and no line may end in another's."""


class Level(enum.IntEnum):
    """How much a line matters; the order of the members is the order of severity."""

    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3
    AUDIT = 4


class LineWriter:
    """Writes lines to a descriptor from a thread, which alone waits for a slow reader."""

    def __init__(self, fd: int, capacity: int = QUEUE_LINES) -> None:
        self._fd = fd
        self._capacity = capacity
        # SimpleQueue is reentrant: a line may be written from a signal handler.
        self._lines: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines that found the queue full or the descriptor broken."""

    def __repr__(self) -> str:
        return f"<LineWriter fd={self._fd} waiting={self._lines.qsize()} dropped={self.dropped}>"

    def start(self) -> None:
        """Start the thread. Lines written before wait for it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
            self._thread.start()

    def write(self, line: bytes) -> bool:
        """Queue a line that ends in a newline; False if it was dropped. Never waits."""
        if self._lines.qsize() >= self._capacity:
            self.dropped += 1
            return False
        self._lines.put(line)
        return True

    def flush(self, patience: float) -> bool:
        """Wait up to `patience` seconds until everything queued so far was handed over."""
        if self._thread is None:
            return False
        reached = threading.Event()
        self._lines.put(reached)
        return reached.wait(patience)

    def _run(self) -> None:
        batch = b""
        while True:
            entry = self._lines.get()
            if isinstance(entry, threading.Event):
                self._hand_over(batch)
                batch = b""
                entry.set()
                continue
            if len(batch) + len(entry) > _BATCH_BYTES:
                self._hand_over(batch)
                batch = b""
            batch += entry
            if self._lines.empty():
                self._hand_over(batch)
                batch = b""

    def _hand_over(self, batch: bytes) -> None:
        while batch:
            try:
                batch = batch[os.write(self._fd, batch) :]
            except BlockingIOError:
                time.sleep(0.05)  # someone made the shared descriptor non-blocking
            except OSError:
                self.dropped += batch.count(b"\n")
                return


class _Log:
    """The process's log: who is speaking, from which level on, and through which writer."""

    def __init__(self) -> None:
        self.writer = LineWriter(2)
        self.process = "gateway"
        self.level = Level.INFO


_log = _Log()


def start(process: str) -> None:
    """Begin to write what is said; `process` names the speaker in every line."""
    _log.process = process
    _log.writer.start()


def set_level(name: str) -> None:
    """Say only what is at least as grave as `name` (debug, info, warn, error); audit lines stay."""
    _log.level = Level.__members__.get(name.upper(), Level.INFO)


def dropped() -> int:
    """Lines lost since the process began because nobody read them."""
    return _log.writer.dropped


def flush(patience: float = 1.0) -> None:
    """Wait up to `patience` seconds until everything said was written."""
    _log.writer.flush(patience)


def debug(event: str, **fields: object) -> None:
    """For whoever hunts a fault."""
    _say(Level.DEBUG, event, fields)


def info(event: str, **fields: object) -> None:
    """The ordinary course of things."""
    _say(Level.INFO, event, fields)


def warn(event: str, **fields: object) -> None:
    """Something is not as it should be, and the gateway deals with it."""
    _say(Level.WARN, event, fields)


def error(event: str, **fields: object) -> None:
    """Something failed that a human should look at."""
    _say(Level.ERROR, event, fields)


def audit(event: str, **fields: object) -> None:
    """Somebody or something changed where traffic goes. Ignores the level."""
    _say(Level.AUDIT, event, fields)


def _say(level: Level, event: str, fields: dict[str, object]) -> None:
    if level < _log.level:
        return
    now = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = {
        "at": at,
        "level": level.name.lower(),
        "process": _log.process,
        "pid": os.getpid(),
        "event": event,
        **fields,
    }
    _log.writer.write(json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace") + b"\n")
