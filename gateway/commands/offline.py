"""What the commands share that read a config file and need no running gateway."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.control.config.loading import ConfigError, load
from gateway.core.compile import Position, compile_snapshot, initial_position
from gateway.exits import Exit
from gateway.model.snapshot import Snapshot


class UnknownPhaseError(Exception):
    """The config has no phase of that name."""


def snapshot_of(path: Path, phase: str | None) -> Snapshot:
    """The snapshot that a gateway would serve by in `phase`, or in the initial one; its version is 0.

    Raises ConfigError for an invalid file and UnknownPhaseError for a phase that it has not.
    """
    loaded = load(path, os.environ)
    phases = loaded.config.deployment.phases
    if phase is not None and phase not in phases:
        raise UnknownPhaseError(f"{path} has no phase {phase!r}; expected one of {', '.join(phases)}")
    position = Position(phase) if phase is not None else initial_position(loaded.config)
    return compile_snapshot(loaded.config, position, digest=loaded.digest, version=0)


def report_invalid(command: Callable[[], int]) -> int:
    """Run a command; what is wrong with its files goes to stderr, a line for each problem, and it exits 2."""
    try:
        return command()
    except (ConfigError, UnknownPhaseError) as error:
        print(error, file=sys.stderr)
    return Exit.INVALID
