"""How many processors this process may use, for `listen.workers: auto`."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_processors(cgroup: Path = _CGROUP) -> int:
    """At least one: the CPU affinity, bounded by the cgroup's quota (versions 2 and 1), rounded up."""
    affinity = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Processors' worth of time that the cgroup grants, None for no bound.

    In a container the cgroup's own folder is mounted at the root, which is where a quota is looked
    for; a quota on a parent group cannot be seen from inside.
    """
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
