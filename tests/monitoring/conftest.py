from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.monitoring import Stage
from tests.support.wiring import Scene

CANARY = "deployment: {initial_phase: canary, phases: {canary: {user_percentage: 10}}}\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A gateway in canary with a tenth of the users on treatment."""
    return Stage(Scene(tmp_path, CANARY))
