"""Command prefixes that put a gateway into a place of its own: a network, a mount table, limits.

Each is for the `prefix` of `Gateway.start`; `can_unshare` says whether this user may make such a place.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def can_unshare(*options: str) -> bool:
    """True if this user may make such a namespace here."""
    try:
        return subprocess.run(["unshare", *options, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def with_hosts(hosts: Path) -> list[str]:
    """A mount table of its own, where `hosts` lies over /etc/hosts."""
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(hosts)]


def with_descriptors(count: int) -> list[str]:
    """At most `count` open descriptors a process."""
    return ["sh", "-c", f'ulimit -n {count} && exec "$@"', "sh"]


def resident(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
