"""What was in force when: every scene since the gateway began, in memory and waiting to be written.

It answers three questions: which scene held at a time (for late outcomes), which scene belongs to a
snapshot's version (for records), and for how long an experiment has counted. Versions start again with
the gateway, times do not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace

from gateway import logs
from gateway.control.store.encoding import from_json, to_json
from gateway.core.assignment import Scene


class Timeline:
    """See the module."""

    def __init__(self, stored: Iterable[tuple[int, str]] = ()) -> None:
        """`stored` is what `unwritten` gave out before, oldest first."""
        self._scenes: list[Scene] = []
        self._times: list[float] = []
        self._versions: list[int] = []
        """Of the scenes since the gateway's start, which are the last ones; they ascend."""
        self._unwritten: dict[int, str] = {}
        self._next = 0
        for number, body in stored:
            self._next = number + 1
            try:
                self._add(from_json(Scene, body))
            except (ValueError, KeyError, TypeError) as error:
                logs.error("a scene is not readable", error=repr(error))

    def __repr__(self) -> str:
        return f"<Timeline scenes={len(self._scenes)} newest={self._scenes[-1:]}>"

    def __len__(self) -> int:
        return len(self._scenes)

    def note(self, scene: Scene) -> None:
        """A scene is in force from now on; the same again in the same gateway changes nothing."""
        newest = self._scenes[-1] if self._scenes else None
        if newest is not None:
            # No scene begins before the one before it, whatever the clock did.
            scene = replace(scene, since=max(scene.since, newest.since))
            if scene.version >= newest.version and _alike(scene, newest):
                return
        self._unwritten[self._next] = to_json(scene)
        self._next += 1
        self._add(scene)

    def _add(self, scene: Scene) -> None:
        if self._versions and scene.version < self._versions[-1]:
            self._versions.clear()
        self._scenes.append(scene)
        self._times.append(scene.since)
        self._versions.append(scene.version)

    def at(self, time: float) -> Scene | None:
        """The scene in force at a Unix time; None before the first."""
        index = bisect_right(self._times, time) - 1
        return self._scenes[index] if index >= 0 else None

    def drawn_by(self, time: float) -> int | None:
        """The last version of a snapshot that drew users as they were drawn at a Unix time.

        None where they still are drawn so, 0 where only an earlier gateway did.
        """
        index = max(0, bisect_right(self._times, time) - 1)
        while index + 1 < len(self._scenes) and _alike(self._scenes[index], self._scenes[index + 1]):
            index += 1
        if index + 1 == len(self._scenes):
            return None
        began = len(self._scenes) - len(self._versions)
        return 0 if index + 1 <= began else self._scenes[index + 1].version - 1

    def counted_seconds(self, experiment: str, since: float, until: float) -> float:
        """Seconds between two Unix times in which requests counted for an experiment, as far as is known."""
        ends = [*self._times[1:], math.inf]
        total = 0.0
        for index in range(max(0, bisect_right(self._times, since) - 1), len(self._scenes)):
            seconds = min(ends[index], until) - max(self._times[index], since)
            if seconds > 0.0 and self._scenes[index].silence(experiment) is None:
                total += seconds
        return total

    def of_version(self, version: int) -> Scene | None:
        """The scene that a snapshot's version stands for in this gateway; None for an unknown one."""
        index = bisect_right(self._versions, version) - 1
        return self._scenes[len(self._scenes) - len(self._versions) + index] if index >= 0 else None

    @property
    def newest(self) -> Scene | None:
        """The scene in force."""
        return self._scenes[-1] if self._scenes else None

    def unwritten(self) -> dict[int, str]:
        """The scenes that are not on disk yet, by number."""
        return dict(self._unwritten)

    def written(self, numbers: Iterable[int]) -> None:
        """These are on disk."""
        for number in numbers:
            self._unwritten.pop(number, None)


def _alike(one: Scene, other: Scene) -> bool:
    """True if both assign everybody in the same way."""
    return one == replace(other, since=one.since, version=one.version)
