"""A number for each row of a table, in as few bytes as the largest one needs; and arrays as bytes.

Whole numbers start with one byte each, and all of them widen together when one does not fit. Most users
make fewer than 256 requests, but a robot may make millions. It does not know what is counted.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

_WIDER = {"B": "H", "H": "I", "I": "Q"}
_PIECE = 4096
"""Rows that are added at a time."""
_COUNT = struct.Struct("=H")
_KIND = struct.Struct("=cI")

Number = TypeVar("Number", int, float)


class Numbers(Generic[Number]):
    """See the module. `values` is for quick reading; it is another array after a widening."""

    __slots__ = ("values",)

    def __init__(self, typecode: str = "B") -> None:
        """`typecode` as in `array`: that of the first values."""
        self.values: array[Number] = array(typecode)

    def __len__(self) -> int:
        return len(self.values)

    def reserve(self, rows: int) -> None:
        """Have room for so many rows; new ones are zero."""
        values = self.values
        while len(values) < rows:
            # A piece at a time: what a large one leaves behind, the allocator would keep.
            values.frombytes(bytes(min(_PIECE, rows - len(values)) * values.itemsize))

    def put(self, row: int, number: Number) -> None:
        """Set the number of a row that there is room for."""
        try:
            self.values[row] = number
        except OverflowError:
            self._widen(_WIDER[self.values.typecode])
            self.put(row, number)

    def append(self, number: Number) -> None:
        """Add a row."""
        try:
            self.values.append(number)
        except OverflowError:
            self._widen(_WIDER[self.values.typecode])
            self.append(number)

    def take(self, rows: Sequence[int]) -> array[Number]:
        """The numbers of some rows."""
        return array(self.values.typecode, map(self.values.__getitem__, rows))

    def restore(self, rows: Iterable[int], numbers: array[Number]) -> None:
        """Set the numbers of some rows, as `take` or a slice of `values` gave them out."""
        if numbers.itemsize > self.values.itemsize:
            self._widen(numbers.typecode)
        if isinstance(rows, range):
            self.values[rows.start : rows.stop] = array(self.values.typecode, numbers)
        else:
            values = self.values
            for row, number in zip(rows, numbers, strict=True):
                values[row] = number

    def _widen(self, typecode: str) -> None:
        self.values = array(typecode, self.values)


def pack(arrays: Sequence[array[Any]]) -> bytes:
    """Arrays as bytes, in the machine's byte order."""
    kinds = [_KIND.pack(one.typecode.encode(), len(one)) for one in arrays]
    return b"".join([_COUNT.pack(len(arrays)), *kinds, *(one.tobytes() for one in arrays)])


def unpack(data: bytes) -> list[array[Any]]:
    """The arrays again. Raises ValueError or struct.error where `pack` did not make the bytes."""
    (count,) = _COUNT.unpack_from(data)
    at = _COUNT.size + count * _KIND.size
    arrays: list[array[Any]] = []
    for number in range(count):
        typecode, length = _KIND.unpack_from(data, _COUNT.size + number * _KIND.size)
        one: array[Any] = array(typecode.decode())
        end = at + length * one.itemsize
        one.frombytes(memoryview(data)[at:end])
        arrays.append(one)
        at = end
    if at != len(data):
        raise ValueError(f"{len(data)} bytes where {at} were expected")
    return arrays
