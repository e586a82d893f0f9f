"""What a store keeps of a table besides its rows: their number, the meaning of the columns, the totals.

JSON text of a few hundred characters. It does not know the rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from gateway.core.results.columns import Totals


@dataclass(frozen=True, slots=True)
class Head:
    """See the module.

    `cells` are pairs of a group's number and an epoch, in the order in which rows name them; `requests`
    are each group's with an outcome; `totals` each metric's, None where they are to be counted anew.
    """

    rows: int
    groups: Sequence[str]
    cells: Sequence[tuple[int, int]]
    metrics: Sequence[str]
    requests: Sequence[int]
    totals: Sequence[Totals] | None


def to_text(head: Head) -> str:
    """A head as text."""
    return json.dumps(asdict(head), separators=(",", ":"))


def from_text(text: str) -> Head:
    """A head again. Raises ValueError, KeyError or TypeError where the text is none."""
    found = json.loads(text)
    found["cells"] = [(group, epoch) for group, epoch in found["cells"]]
    if found["totals"] is not None:
        found["totals"] = [Totals(**totals) for totals in found["totals"]]
    return Head(**found)
