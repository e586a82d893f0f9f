"""When the config's files are read again, and what happens then.

Changes are detected by content, on request (SIGHUP) and by looking a few times a second, through
symlinks. A change counts when it has been stable for `settle` seconds, and when after loading the files
still hold exactly what was loaded. So neither a half-written file nor two halves of a ConfigMap swap are
ever applied. A config is applied completely or not at all, and every failure stays visible.

It does not know what a config means or how it is applied; both are functions that are passed in.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway import logs
from gateway.control.config.loading import ConfigError, Loaded
from gateway.control.config.sources import Fingerprints, fingerprint, look
from gateway.control.tasks import Lane

POLL_INTERVAL = 0.25
"""Seconds between two looks at the files. With `SETTLE` and loading, a change is in force within 1 s."""
SETTLE = 0.3
"""Seconds that changed files must hold still: longer than a writer pauses between two writes."""
LOOK_PATIENCE = 1.0
LOAD_PATIENCE = 5.0


class ReloadResult(enum.StrEnum):
    """How an attempt to reload ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNCHANGED = "unchanged"


class ReloadRefused(Exception):
    """The config is valid, but may not replace the one that runs; the message says why and the way out."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The config in force. `at` is Unix time in seconds of when it took force."""

    loaded: Loaded
    at: float


class Reloader:
    """Keeps the config in force the one that the files hold, as far as that is possible."""

    def __init__(
        self,
        applied: Applied,
        load: Callable[[], Loaded],
        apply: Callable[[Applied], Awaitable[None]],
        heed: Callable[[Loaded | ConfigError], Awaitable[None]],
        *,
        now: Callable[[], float] = time.time,
        poll_interval: float = POLL_INTERVAL,
        settle: float = SETTLE,
    ) -> None:
        """`load` reads the files (in a thread) or raises ConfigError; `apply` may raise ReloadRefused.

        `heed` hears of everything that was read, before anything becomes of it.
        """
        self.applied = applied
        self.error: str | None = None
        """Why the newest content of the files is not in force; None where it is."""
        self.results: Counter[ReloadResult] = Counter(dict.fromkeys(ReloadResult, 0))
        self._load = load
        self._apply = apply
        self._heed = heed
        self._now = now
        self._poll_interval = poll_interval
        self._settle = settle
        self._requested = asyncio.Event()
        self._lane = Lane("config")
        self._seen = _fingerprints(applied.loaded)

    def __repr__(self) -> str:
        return f"<Reloader digest={self.applied.loaded.digest[:12]} error={self.error!r}>"

    @property
    def file_differs(self) -> bool:
        """True while the files hold something else than what is in force."""
        running = _fingerprints(self.applied.loaded)
        return any(self._seen.get(path) != content for path, content in running.items())

    def request(self) -> None:
        """Read the files soon, changed or not. Requests that come before that count as one."""
        self._requested.set()

    async def run(self) -> None:
        """Watch the files for ever."""
        while True:
            try:
                async with asyncio.timeout(self._poll_interval):
                    await self._requested.wait()
            except TimeoutError:
                await self.check(requested=False)
            else:
                self._requested.clear()
                await self.check(requested=True)

    async def check(self, *, requested: bool) -> None:
        """Look at the files once; where they changed, or on request, read them and apply what they hold."""
        found = await self._look(self._seen)
        if found == self._seen and not requested:
            return
        self._seen, outcome = await self._read(found)
        await self._conclude(outcome, requested)

    async def _read(self, found: Fingerprints) -> tuple[Fingerprints, Loaded | ConfigError | TimeoutError]:
        """Load what the files hold once they hold still, and the fingerprints of exactly that."""
        while True:
            await asyncio.sleep(self._settle)
            before = await self._look(found)
            if before != found:
                found = before
                continue
            outcome: Loaded | ConfigError | TimeoutError
            try:
                outcome = await self._lane.run(LOAD_PATIENCE, self._load)
            except (ConfigError, TimeoutError) as error:
                outcome = error
            found = await self._look(self._paths(outcome))
            expected = _fingerprints(outcome) if isinstance(outcome, Loaded) else before
            if all(found.get(path) == content for path, content in expected.items()):
                return found, outcome

    async def _look(self, paths: Iterable[Path]) -> Fingerprints:
        paths = tuple(paths)
        try:
            return await self._lane.run(LOOK_PATIENCE, lambda: look(paths))
        except TimeoutError:
            return dict.fromkeys(paths, "cannot be read in time")

    def _paths(self, outcome: Loaded | ConfigError | TimeoutError) -> set[Path]:
        """What to watch from now on: a faulty file that another one names is watched too."""
        match outcome:
            case Loaded():
                return set(outcome.sources)
            case ConfigError():
                return {*self._seen, *outcome.files}
            case _:
                return set(self._seen)

    async def _conclude(self, outcome: Loaded | ConfigError | TimeoutError, requested: bool) -> None:
        if not isinstance(outcome, TimeoutError):
            await self._say(outcome)
        if not isinstance(outcome, Loaded):
            self._fail(str(outcome))
        elif outcome.digest != self.applied.loaded.digest:
            await self._replace(outcome)
        elif requested or self.error is not None:
            self.error = None
            self.results[ReloadResult.UNCHANGED] += 1
            logs.info("config unchanged", digest=outcome.digest)

    async def _say(self, read: Loaded | ConfigError) -> None:
        """Have what was read heeded; a fault there keeps no config from taking force."""
        try:
            await self._heed(read)
        except Exception as error:
            logs.error("config not heeded", error=repr(error))

    async def _replace(self, loaded: Loaded) -> None:
        applied = Applied(loaded, self._now())
        try:
            await self._apply(applied)
        except ReloadRefused as refusal:
            self._fail(str(refusal))
        except Exception:
            self._fail("internal error while applying the config; see the log")
            raise
        else:
            self.applied = applied
            self.error = None
            self.results[ReloadResult.SUCCESS] += 1
            logs.audit("config reloaded", digest=loaded.digest)

    def _fail(self, error: str) -> None:
        self.error = error
        self.results[ReloadResult.FAILURE] += 1
        logs.error("config not reloaded", reason=error, in_force=self.applied.loaded.digest)


def _fingerprints(loaded: Loaded) -> Fingerprints:
    return {path: fingerprint(data) for path, data in loaded.sources.items()}
