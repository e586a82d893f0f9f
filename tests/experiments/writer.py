"""Writes participants to a file of experiments for ever, saying how many after each durable write.

Run as a script of its own, to be killed: `python -m tests.experiments.writer PATH`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.control.experiments.database import Batch, ExperimentsDatabase
from gateway.core.results.participants import ParticipantTable
from gateway.model.records import REQUEST
from tests.support.participants import read_table

EXPERIMENT, GROUP = "exp", "control"
ARRIVALS = 2000
"""Newcomers with every write; of those who are there already, as many come back at most."""


def user(number: int) -> int:
    """The hash of a made user: all over the range."""
    return number * 0x9E3779B97F4A7C15 % 2**64


def write_for_ever(path: Path) -> None:
    """Go on from what the file has."""
    database = ExperimentsDatabase(path)
    is_new = database.head(EXPERIMENT) is None
    table = ParticipantTable([GROUP]) if is_new else read_table(database, EXPERIMENT)
    while True:
        there = len(table)
        newcomers = [(user(there + n), 0, REQUEST, 0.5) for n in range(ARRIVALS)]
        others = [(user(n), 0, REQUEST, 0.25) for n in range(0, there, 1 + there // ARRIVALS)]
        table.merge([*newcomers, *others], {0: 0}, ())
        changes = table.take_changes()
        assert changes is not None
        outcome = (there.to_bytes(16, "little"), 0.0)
        database.write(Batch({EXPERIMENT: changes}, ids=[outcome], durable=True))
        print(len(table), flush=True)


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
