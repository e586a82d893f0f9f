"""A store on a directory of its own, with short patience."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.control.store.api import StoreFault
from gateway.control.store.sqlite import STORE_FILE, SqliteStore, Timing

RETENTION = 90 * 86_400.0
QUICK = Timing(patience=5.0, retry=0.01)

Opener = Callable[[], Awaitable[SqliteStore]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is."""
    return tmp_path / STORE_FILE


@pytest.fixture
def faults() -> list[StoreFault]:
    """The faults that stores told of."""
    return []


@pytest.fixture
async def open_store(path: Path, faults: list[StoreFault]) -> AsyncIterator[Opener]:
    """Opens stores on `path`, and closes them at the end of the test."""
    stores: list[SqliteStore] = []

    async def open_one() -> SqliteStore:
        store = await SqliteStore.open(path, RETENTION, on_fault=faults.append, timing=QUICK, now=lambda: 1e9)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()
