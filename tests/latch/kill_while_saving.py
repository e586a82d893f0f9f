"""Kills a process that saves the latch, again and again, and reads what it left behind.

Prints the number of kills and how often the file moved on between two of them.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from gateway.latch import DurableLatch, LatchKind, LatchPage


def save_for_ever(durable: DurableLatch, page: LatchPage) -> None:
    while True:
        page.engage(LatchKind.EMERGENCY, "r" * random.randrange(900), "o")
        durable.save(page)


def main(directory: Path, kills: int) -> int:
    durable = DurableLatch(directory)
    page = LatchPage.create()
    durable.save(page)
    last, advanced = 0, 0
    for kill in range(kills):
        child = os.fork()
        if child == 0:
            save_for_ever(durable, page)
        time.sleep(random.uniform(0.0, 0.003))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = durable.load()
        # What was last on disk, or something newer that was begun: never less, never broken.
        if found is None or found.kind is LatchKind.CORRUPT or not last <= found.number <= page.number:
            sys.stderr.write(f"kill {kill}: {found} with {page.number} begun\n")
            return 1
        advanced += found.number > last
        last = found.number
    sys.stdout.write(f"{kills} {advanced}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
