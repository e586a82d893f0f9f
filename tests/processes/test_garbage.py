"""Loading without the collector: it is back whatever comes of it."""

from __future__ import annotations

import gc

import pytest

from gateway.garbage import uncollected


def test_the_collector_rests_while_modules_load_and_spares_them_afterwards() -> None:
    """A process that never collects again would grow for ever."""
    before = gc.get_freeze_count()
    seen: list[bool] = []

    def load() -> None:
        with uncollected():
            seen.append(gc.isenabled())
            raise ImportError("no such module")

    try:
        with pytest.raises(ImportError, match="no such module"):
            load()
        assert (seen, gc.isenabled()) == ([False], True)
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
