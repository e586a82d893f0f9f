"""Passes on that the rollout begins anew: to the windows, the evidence, and whoever else collects data.

The desk calls it as an effect of a step. Windows come first, because the others start where the new
window starts. It collects nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Restarting(Protocol):
    """Something that is measured from a beginning on."""

    def restart_evidence(self) -> None:
        """Begin everything afresh."""

    def restart_windows(self) -> None:
        """Begin windows afresh; what was gathered for a rollback is kept."""


class Restarts:
    """Passes restarts on, in the order in which the listeners joined."""

    def __init__(self, windows: Restarting) -> None:
        self._windows = windows
        self._evidence: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Restarts evidence={len(self._evidence)}>"

    def join(self, restart_evidence: Callable[[], None]) -> None:
        """Tell this one too whenever evidence begins afresh."""
        self._evidence.append(restart_evidence)

    def restart_evidence(self) -> None:
        """Begin everything afresh: windows, evidence, trials."""
        self._windows.restart_evidence()
        for restart in self._evidence:
            restart()

    def restart_windows(self) -> None:
        """Begin the gates' windows afresh."""
        self._windows.restart_windows()
