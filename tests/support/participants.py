"""Tables of participants, read back from the experiments' file."""

from __future__ import annotations

from dataclasses import replace

from gateway.control.experiments.database import JOURNAL, PAGES, ExperimentsDatabase
from gateway.core.results.head import from_text, to_text
from gateway.core.results.participants import ParticipantTable


def read_table(
    database: ExperimentsDatabase, experiment: str, *, recounted: bool = False
) -> ParticipantTable:
    """An experiment's participants as the file has them; `recounted` adds the totals up from the rows."""
    head = database.head(experiment)
    assert head is not None
    if recounted:
        head = to_text(replace(from_text(head), totals=None))
    table = ParticipantTable.stored(head)
    for kind, load in ((PAGES, table.load_page), (JOURNAL, table.load_entry)):
        for number, data in database.pieces(kind, experiment, -1, 1_000):
            load(number, data)
    for _ in table.finish():
        pass
    return table
