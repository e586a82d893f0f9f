"""A browser and a gateway for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser import chromium
from tests.support.operating import Operated, operated


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a whole module."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, int]) -> Iterator[Operated]:
    """One gateway with operators and gates for a whole module."""
    folder: Path = tmp_path_factory.mktemp("dashboard")
    with operated(folder, upstreams) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared: Operated) -> Operated:
    """The shared gateway, neither latched nor paused, in the phase that has gates ahead."""
    shared.settle()
    return shared
