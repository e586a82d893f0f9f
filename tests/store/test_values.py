"""Documents as values: what stands is read without failing, and replaced whatever version it is at."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.control.store.api import Document
from gateway.control.store.values import put, recall
from tests.store.conftest import Opener


@dataclass(frozen=True, slots=True)
class Kept:
    number: int


async def test_a_value_that_was_put_is_recalled_and_replaced(open_store: Opener) -> None:
    """Version after version, over a restart too."""
    store = await open_store()
    for number in (1, 2, 3):
        await put(store, "kept", Kept(number))
    await store.close()
    store = await open_store()
    stored = store.document("kept")
    assert stored is not None
    assert (stored.version, recall(Kept, stored, "a number")) == (3, Kept(3))


@pytest.mark.parametrize("body", ["", "[]", "null", '{"numbers": 1}', "{"])
def test_what_cannot_be_read_is_nothing(body: str) -> None:
    """A keeper begins afresh; it must not keep the process from starting."""
    assert recall(Kept, Document(7, body), "a number") is None
    assert recall(Kept, None, "a number") is None
