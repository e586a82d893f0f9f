"""`workers: auto` by what may really be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.processes.processors import usable_processors

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", min(2, AFFINITY)),
        ("10000000 100000", AFFINITY),
        ("max 100000", AFFINITY),
        ("nonsense", AFFINITY),
    ],
)
def test_a_quota_of_cgroup_2_bounds_the_affinity(tmp_path: Path, quota: str, expected: int):
    """Half a processor is one worker, one and a half are two; no quota is no bound."""
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_processors(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("50000", 1), ("-1", AFFINITY)])
def test_a_quota_of_cgroup_1_does_too(tmp_path: Path, quota: str, expected: int):
    """The older files say the same; -1 is no bound."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_processors(tmp_path) == expected


def test_without_a_cgroup_it_is_the_affinity(tmp_path: Path):
    """Nothing to read, nothing to bound."""
    assert usable_processors(tmp_path) == AFFINITY
