"""Kills a process that writes to a store, many times at random points, and looks at what is left.

Run as a script of its own, because it forks: `python -m tests.store.writer PATH KILLS SEED`. Prints what
it found as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from gateway.control.store.api import Document, Entry, Tick
from gateway.control.store.backlog import Batch
from gateway.control.store.database import Database

PAYLOAD = 2000
"""Characters of a document: a state of ordinary size, over more than one page."""


def write_for_ever(path: Path, acknowledge: int) -> None:
    """Write version after version, each with its entry, and say each number once it is on disk."""
    database = Database(path)
    contents = database.contents()
    version = contents.documents["rollout"].version if contents.documents else 0
    while True:
        version += 1
        letter = "abcdefghij"[version % 10]
        document = Document(version, json.dumps({"version": version, "text": letter * PAYLOAD}))
        entry = Entry(float(version), "test", letter * PAYLOAD)
        ticks = (Tick(version, 10, "key", {"version": version}),)
        database.write(Batch({"rollout": document}, [(version, entry)], ticks, urgent=True))
        os.write(acknowledge, version.to_bytes(8, "little"))


def kill_once(path: Path, delay: float, *, once_it_writes: bool) -> int:
    """Kill a process `delay` seconds after its start, or after its first write; what it vouched for last."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write_for_ever(path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    said = os.read(reading, 8) if once_it_writes else b""
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(reading, 65536):
        said += piece
    os.close(reading)
    return int.from_bytes(said[-8:], "little") if said else 0


def look(path: Path, vouched: int) -> str:
    """What a kill left: "old" (what was vouched for), "new" (the write after it), or what is wrong."""
    database = Database(path)
    contents = database.contents()
    entries = dict(database.entries(0, 1_000_000))
    ticks = database.ticks(0, 10**9)
    database.close()
    document = contents.documents.get("rollout", Document(0, '{"version": 0}'))
    if json.loads(document.body)["version"] != document.version:
        return "torn document"
    if sorted(entries) != list(range(1, document.version + 1)) or len(ticks) != document.version:
        return f"document {document.version} with {len(entries)} entries and {len(ticks)} ticks"
    if document.version not in (vouched, vouched + 1):
        return f"version {document.version} where {vouched} was vouched for"
    return "old" if document.version == vouched else "new"


def main() -> None:
    """See the module."""
    path, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    vouched = 0
    found: Counter[str] = Counter()
    for number in range(kills):
        # Every other one while it may still be opening the file, as far as it comes on this machine.
        delay = draw.uniform(0.0, 0.02)
        vouched = max(vouched, kill_once(path, delay, once_it_writes=number % 2 == 0))
        found[look(path, vouched)] += 1
        database = Database(path)
        documents = database.contents().documents
        vouched = documents["rollout"].version if documents else 0
        database.close()
    print(json.dumps({"found": found, "versions": vouched}))


if __name__ == "__main__":
    main()
