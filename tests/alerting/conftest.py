"""Rollouts for the tests of what follows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wiring import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A gateway's rollout with the phases and gates of the defaults, from development on."""
    return Scene(tmp_path)
