"""Log lines: whole, in order, and never waited for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from gateway import logs
from gateway.logs import LineWriter

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def test_lines_come_out_whole_and_in_order(pipe: Pipe):
    """What is written first is read first."""
    reading, writing = pipe
    writer = LineWriter(writing)
    writer.start()
    for number in range(100):
        assert writer.write(b"%d\n" % number)
    assert writer.flush(5)
    assert os.read(reading, 65536).split() == [b"%d" % number for number in range(100)]


def test_lines_of_several_writers_do_not_mix(pipe: Pipe):
    """Workers share one standard output: with its pipe full, each line still comes out in one piece."""
    reading, writing = pipe
    writers = [LineWriter(writing) for _ in range(2)]
    lines = [b"%d" % number * 300 for number in range(2)]
    for line, writer in zip(lines, writers, strict=True):
        for _ in range(1000):
            writer.write(line + b"\n")
    for writer in writers:
        writer.start()
    received = b""
    while received.count(b"\n") < 2000:
        received += os.read(reading, 3000)
    assert set(received.split(b"\n")) == {*lines, b""}


def test_nobody_waits_for_a_reader_that_has_stopped(pipe: Pipe):
    """A full pipe fills the queue, a full queue drops and counts; then the reader comes back."""
    reading, writing = pipe
    writer = LineWriter(writing, capacity=50)
    writer.start()
    line = b"x" * 4095 + b"\n"
    began = time.monotonic()
    written = sum(writer.write(line) for _ in range(1000))
    assert time.monotonic() - began < 1.0
    assert writer.dropped == 1000 - written > 0
    assert not writer.flush(0.01)
    left = written
    while left:
        left -= os.read(reading, 65536).count(b"\n")
    assert writer.write(b"again\n")
    assert writer.flush(5)
    assert os.read(reading, 65536) == b"again\n"


def test_a_broken_pipe_is_counted_and_survived(pipe: Pipe):
    """The reader is gone for good: lines are lost, nothing is raised."""
    reading, writing = pipe
    os.close(reading)
    writer = LineWriter(writing)
    writer.start()
    writer.write(b"one\n")
    assert writer.flush(5)
    assert writer.dropped == 1
    os.dup2(writing, reading)  # for the fixture to close


def test_a_full_disk_is_counted_and_survived():
    """Standard output goes to a file, and its disk is full: lines are lost, nothing is raised or awaited."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = LineWriter(descriptor)
        writer.start()
        for _ in range(3):
            assert writer.write(b"one\n")
        assert writer.flush(5)
        assert writer.dropped == 3
    finally:
        os.close(descriptor)


def test_a_line_says_who_when_and_what(monkeypatch: pytest.MonkeyPatch):
    """One JSON object a line; values that JSON does not know are written as text."""
    lines = said(monkeypatch, lambda: logs.info("it happened", path=os.sep, error=ValueError("x")))
    assert (
        lines[0].items()
        >= {
            "level": "info",
            "event": "it happened",
            "pid": os.getpid(),
            "path": "/",
            "error": "x",
        }.items()
    )
    assert str(lines[0]["at"]).endswith("Z")


def test_the_level_mutes_all_but_audit_lines(monkeypatch: pytest.MonkeyPatch):
    """A quiet level must not mute a rollback."""

    def speak() -> None:
        logs.set_level("error")
        for say in (logs.debug, logs.info, logs.warn, logs.error, logs.audit):
            say("x")
        logs.set_level("nonsense")  # means the usual one
        logs.info("y")

    assert [line["level"] for line in said(monkeypatch, speak)] == ["error", "audit", "info"]


def said(monkeypatch: pytest.MonkeyPatch, speak: object) -> list[dict[str, object]]:
    """The lines that `speak` says, beginning at the usual level: whoever ran before may have set another."""
    logs.set_level("info")
    lines: list[bytes] = []
    monkeypatch.setattr(LineWriter, "write", lambda _, line: lines.append(line) or True)
    assert callable(speak)
    speak()
    return [json.loads(line) for line in lines]
