"""Compiles the newest snapshot, numbers it, and sends it to the workers.

The version grows by one with every snapshot that differs from the last, also over restarts: the first
snapshot of a new control process continues the numbers of the old one. It does not know why a config or a
phase changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.control.config.loading import Loaded
from gateway.core.compile import Position, compile_snapshot
from gateway.core.split import Table
from gateway.link.api import ControlEnd
from gateway.model.lifecycle import Experiments
from gateway.model.snapshot import Snapshot


class Publisher:
    """Publishes snapshots; `current` and `table` are the newest."""

    def __init__(
        self,
        link: ControlEnd,
        last: Snapshot | None,
        loaded: Loaded,
        position: Position,
        experiments: Callable[[Loaded], Experiments],
    ) -> None:
        """Compile the first snapshot. `last` is what an earlier control process published last.

        `experiments` says how the experiments stand under a config.
        """
        self._link = link
        self._experiments = experiments
        self.current = self._compile(last, loaded, position)
        self.table = Table(self.current)

    def __repr__(self) -> str:
        return f"<Publisher version={self.current.version} phase={self.current.phase}>"

    def publish_current(self) -> None:
        """Hand the newest snapshot to the workers, whether or not they have it."""
        self._link.publish(self.current)

    def publish(self, loaded: Loaded, position: Position) -> Snapshot:
        """Compile and publish what these two amount to; the same again is not published again."""
        snapshot = self._compile(self.current, loaded, position)
        if snapshot is not self.current:
            self.current = snapshot
            self.table = Table(snapshot)
            self.publish_current()
        return snapshot

    def _compile(self, last: Snapshot | None, loaded: Loaded, position: Position) -> Snapshot:
        version = 0 if last is None else last.version
        experiments = self._experiments(loaded)
        snapshot = compile_snapshot(
            loaded.config, position, digest=loaded.digest, version=version, experiments=experiments
        )
        if last is not None and snapshot == last:
            return last
        return replace(snapshot, version=version + 1)
