"""How a command ends: the exit codes that scripts and init systems rely on.

It does not know which command ends how.
"""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Exit codes of every `gateway` command."""

    DONE = 0
    """Done, or healthy."""
    FAILED = 1
    """Failed, or unhealthy; also: another gateway holds the port or the state directory."""
    INVALID = 2
    """Wrong usage, or an invalid config."""
    GATE_NOT_PASSED = 3
    """The rollout refused; the reasons were printed."""
    UNREACHABLE = 4
    """No gateway could be reached."""
    NO_WORKER = 5
    """No worker ever became ready."""


SIGNAL_BASE = 128
"""A process that signal n ended at once exits with this plus n."""
