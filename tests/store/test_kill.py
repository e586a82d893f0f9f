"""A writer that is killed leaves the old state or the new one, never anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 200


@pytest.mark.process
def test_a_kill_at_any_point_leaves_the_old_state_or_the_new_one(path: Path) -> None:
    """200 kills at random points: each time document, entry and tick are of one version, none is lost."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.store.writer", str(path), str(KILLS), "2026"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert set(report["found"]) <= {"old", "new"}
    assert sum(report["found"].values()) == KILLS
    assert report["versions"] > KILLS / 4, "the writer hardly wrote: the kills prove nothing"
