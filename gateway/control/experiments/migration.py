"""Converts participants of a version 1 file, one row each, into pages of a table.

Pure: rows in, pages and the table's head out. The totals are computed again from the same
numbers, so they give the same figures.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

from gateway.core.results.head import Head, to_text
from gateway.core.results.journal import PAGE
from gateway.core.results.numbers import pack
from gateway.core.results.tally import ERROR_RATE

Row: TypeAlias = tuple[int, str, int, bytes]
"""The user's hash as a signed number, its group, the epoch of its arrival, and the values.

These are 16 bytes for each metric, in the machine's byte order: how many values, and their sum; a row
from a time with fewer metrics is shorter.
"""
_WRAP = 1 << 64
_WIDTHS = (("B", 0xFF), ("H", 0xFFFF), ("I", 0xFFFFFFFF))


class CarriedOver:
    """The table of an experiment. Take the `pages` in, one by one, before the `head`."""

    def __init__(self, rows: Iterable[Row], metrics: Sequence[str]) -> None:
        """`rows` in any order, `metrics` in that of the rows' values."""
        self._source = iter(rows)
        self._metrics = metrics
        self._rows = 0
        self._groups: dict[str, int] = {}
        self._cells: dict[tuple[int, int], int] = {}

    def pages(self) -> Iterator[bytes]:
        """The table's pages, from the first one on."""
        while rows := list(islice(self._source, PAGE)):
            self._rows += len(rows)
            yield self._page(rows)

    def head(self) -> str:
        """What belongs to the pages that were taken in."""
        return to_text(
            Head(
                rows=self._rows,
                groups=tuple(self._groups),
                cells=tuple(self._cells),
                metrics=self._metrics,
                requests=(),
                totals=None,
            )
        )

    def _page(self, rows: Sequence[Row]) -> bytes:
        users = array("Q", [row[0] % _WRAP for row in rows])
        cells = [self._cell(row[1], row[2]) for row in rows]
        planes: list[array[Any]] = [users, _narrow(cells)]
        words = 2 * len(self._metrics)
        values = memoryview(b"".join([row[3].ljust(8 * words, b"\0") for row in rows]))
        whole, real = values.cast("q"), values.cast("d")
        for number, metric in enumerate(self._metrics):
            counts, sums = whole[2 * number :: words].tolist(), real[2 * number + 1 :: words].tolist()
            if metric == ERROR_RATE:
                planes.append(_narrow([int(failures) for failures in sums]))
            else:
                planes += (_narrow(counts), array("d", sums))
        return pack(planes)

    def _cell(self, group: str, epoch: int) -> int:
        number = self._groups.setdefault(group, len(self._groups))
        return self._cells.setdefault((number, epoch), len(self._cells))


def _narrow(numbers: Sequence[int]) -> array[int]:
    """Numbers in as few bytes each as the largest needs."""
    most = max(numbers)
    typecode = next((code for code, limit in _WIDTHS if most <= limit), "Q")
    return array(typecode, numbers)
