"""What gates judge by: counts since the windows last began, kept over restarts; and each phase's metrics.

The control process uses it so. `await Windows.restore(...)` makes it, from the store and from what
the control process before handed on; `resume(standing)` follows once the rollout's state is known and
its snapshot published. Once a second `take(ledger.reports, live_pids)` gives the ticks that closed, for
whoever gathers evidence. `restart_evidence` and `restart_windows` follow the rollout's effects, after
the snapshot was published; `evidence(gate)` is what `core.judging.judge` wants at a look. `close()` comes
last.

Traffic between two such beginnings is a *period*. Sums of settled ticks go to the store every ten
seconds (`control.archive`); the workers, and the ledger for dead ones, still have all that is not in it.
What people and alerts look at is kept in step with ticks that are still open, by what they get.

It does not decide when to look, nor what a number is worth; see `core.gates` and `core.judging`.
"""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from gateway import logs
from gateway.control.archive import Archive, Period, StoredSums
from gateway.control.stays import PhaseMetrics, Stays
from gateway.control.store.api import Store, StoreError
from gateway.control.traffic import LONGEST, MOST_RECENT, ROW_SECONDS, Point, Strata, Traffic, View, view_of
from gateway.core.folding import Fold, Progress, Tick, add
from gateway.core.sums import Profile
from gateway.model.gates import Contrast, Evidence, Exceedance, Mean, MetricsThreshold, Proportion, Sample
from gateway.model.metrics import Metric
from gateway.model.observation import Observation
from gateway.model.scores import Score
from gateway.model.snapshot import Arm, Snapshot
from gateway.model.ticks import Counts, LastingLimit, Series, head_limit, settle_limit

_TREATMENT = Arm.TREATMENT.label
_RESPONSE_TIME_SHARE = 0.1  # response_time is the 90th percentile
_COUNTED_SCORES = frozenset(metric for metric in Metric if metric.is_share)
"""Scores that are judged as shares; the others are means."""


class Span(enum.Enum):
    """Which traffic a view is of: that of the last `look_back` seconds, or of the stay in the phase."""

    WINDOW = "window"
    PHASE = "phase"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the rollout stands: its phase, the phase's epoch, the newest snapshot that was published."""

    phase: str
    epoch: int
    snapshot: Snapshot


class Windows:
    """See the module. Make one with `restore`."""

    _standing: Callable[[], Standing]

    def __init__(
        self,
        store: Store,
        keep: Callable[[bytes], None],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = keep
        self._now = now
        self._monotonic = monotonic
        self._anchor = round((now() - monotonic()) * 1000)
        self._fold = Fold(round(monotonic() * 1000) - MOST_RECENT * 1000)
        self._archive = Archive(store)
        self._stays = Stays()
        self._periods: list[Period] = []
        self._strata = Strata()
        self._traffic = Traffic()
        self._late: dict[Series, Counts] = {}
        self._head_limit, self._settle_limit = LastingLimit(), LastingLimit()
        self._views: dict[Span, View] = {}
        self._settled_to = 0
        self.stored_to = 0
        """Monotonic milliseconds: ticks that began before are in the store, and do not come again."""
        self.restored: tuple[StoredSums, ...] = ()
        """What the store had of the last hour at the start, oldest first: its ticks do not come again."""
        self.look_back = 300.0
        """Seconds that `recent` covers: `monitoring.window`."""
        self.rated_at = 0.0
        """Unix time of the newest outcome that was added, as its sender says; it is stored with the sums."""
        self.sample_ratio_ok: Callable[[], bool] = lambda: True
        """Asked at each look of a gate: False while the arms' sizes contradict their declared shares."""

    def __repr__(self) -> str:
        return f"<Windows {self._periods[-1] if self._periods else None} {self._fold!r}>"

    # --- what is kept -----------------------------------------------------------------------

    @classmethod
    async def restore(
        cls,
        store: Store,
        kept: bytes | None,
        keep: Callable[[bytes], None],
        *,
        retention: float,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Windows:
        """Go on with what the store has.

        `kept` is what `keep` was called with last in this gateway, by an earlier control process: the
        workers of its time run on. None at the gateway's start. `retention` is the store's, in seconds.
        A store that cannot be read, or holds foreign rows, is logged, and the windows begin afresh.
        """
        windows = cls(store, keep, now=now, monotonic=monotonic)
        try:
            await windows._load(retention, kept)
        except (StoreError, ValueError, TypeError, KeyError, IndexError) as error:
            logs.error("stored counts are not usable", error=repr(error), consequence="windows begin afresh")
            return cls(store, keep, now=now, monotonic=monotonic)
        return windows

    async def _load(self, retention: float, kept: bytes | None) -> None:
        self._periods, self.rated_at, stored = await self._archive.load(self._now(), retention)
        recent = [sums for sums in stored if sums.at > self._now() - MOST_RECENT]
        self.restored = tuple(sorted(recent, key=lambda sums: sums.at))
        for sums in stored:
            if sums.number == self._periods[-1].number:
                self._strata.of(sums.at, sums.stream[0], sums.stream[1]).load(sums.numbers)
            if sums.at > self._now() - LONGEST:
                self._traffic.restore(sums.at, *sums.stream[:2], sums.numbers, self._now())
        if kept is not None:
            self._continue(kept, stored)
        for period in self._periods:
            self._stays.begin(period)
            for stream, total in self._archive.totals.get(period.number, {}).items():
                self._stays.add(period, stream, total)

    def _continue(self, kept: bytes, stored: Iterable[StoredSums]) -> None:
        state = json.loads(kept)
        self._anchor = state["anchor"]
        periods = {period.number: period for period in self._periods}
        periods |= {period["number"]: Period(**period) for period in state["periods"]}
        self._periods = [periods[number] for number in sorted(periods)]
        reached = [sums.settled_to for sums in stored if sums.anchor == self._anchor]
        if reached:
            self._settled_to = max(reached)
            self._fold = Fold(self._settled_to)

    # --- periods ----------------------------------------------------------------------------

    def resume(self, standing: Callable[[], Standing]) -> None:
        """Go on with the period that was current, if it is one of this stay in the phase.

        `standing` is asked from now on.
        """
        self._standing = standing
        current = self._periods[-1] if self._periods else None
        stands = standing()
        if current is None or (current.phase, current.epoch) != (stands.phase, stands.epoch):
            self._begin()
        self._hand_on()

    def restart_evidence(self) -> None:
        """Begin everything afresh, as `restart_windows`."""
        self._begin()

    def restart_windows(self) -> None:
        """Begin the windows afresh, with the requests that are decided by the newest snapshot.

        Where that one is no newer than at the last beginning, with the requests of the next tick.
        """
        self._begin()

    def _begin(self) -> None:
        stands = self._standing()
        snapshot = stands.snapshot
        now = self._now()
        first_tick = 0
        if self._periods and snapshot.version <= self._periods[-1].version:
            first_tick = round((self._monotonic() + snapshot.tick) * 1000)
        number = self._periods[-1].number + 1 if self._periods else 1
        self._periods.append(Period(number, stands.phase, stands.epoch, now, snapshot.version, first_tick))
        self._strata.clear()
        self._views.clear()
        self._stays.begin(self._periods[-1])
        self._archive.begin(self._periods[-1], now)
        self._hand_on()

    def _hand_on(self) -> None:
        recent = [asdict(period) for period in self._periods[-MOST_KEPT_PERIODS:]]
        self._keep(json.dumps({"anchor": self._anchor, "periods": recent}).encode())

    def _period_of(self, series: Series, at: int) -> Period | None:
        for period in reversed(self._periods):
            if series.snapshot >= period.version and at >= period.first_tick:
                return period
        return None

    # --- taking in --------------------------------------------------------------------------

    def take(self, reports: Collection[Observation], live: Collection[int]) -> Progress:
        """Take in the newest reports of all workers; the ticks that closed and settled by that.

        `live` are the process ids of the workers that still run. After a restart of the control process
        ticks that had closed before may come again.
        """
        snapshot = self._standing().snapshot
        now = self._monotonic()
        settle = settle_limit(snapshot)
        self._settle_limit.set(settle + snapshot.tick, now)
        self._head_limit.set(min(settle, head_limit(snapshot)) + snapshot.tick, now)
        self._fold.take(reports, live)
        limits = self._head_limit.at(now), self._settle_limit.at(now)
        progress = self._fold.advance(*(round(seconds * 1000) for seconds in (now, *limits)))
        for grown in progress.grown:
            self._see(grown)
        for done in progress.settled:
            self._settle(done)
        self._views.clear()
        return self._with_late(progress)

    def add_outcome(
        self,
        arm: str,
        route: str,
        metric: str,
        value: float,
        *,
        drawn_by: int | None = None,
        first: bool = True,
    ) -> None:
        """Count a score that did not come with its answer: a rating, mostly.

        It belongs to the present, whenever its request was: it counts for gates and views at once, and for
        whoever gathers evidence with the next tick that closes, as the user's `first` in a while or not.
        There it is compared with those of users who were drawn alike: `drawn_by` is the version of the last
        snapshot that did so, None for the newest. One that was not stored yet is lost with the process;
        `rated_at` says which.
        """
        period, score = self._periods[-1], {metric: Score.of(value)}
        stream = (route, arm, "", "")
        self._archive.rate(period.number, stream, score)
        self._stays.rate(period, stream, score)
        version = self._standing().snapshot.version if drawn_by is None else drawn_by
        late = {Series(version, route, arm, "", "", first): Counts(scores=score)}
        self._traffic.remember((self._wall(round(self._monotonic() * 1000)), late), self.look_back)
        self._late = _both(self._late, late)
        self._views.clear()

    def _with_late(self, progress: Progress) -> Progress:
        """Hand late scores out with the newest tick that closed: a tick is folded once.

        Not while there is more to take in, after a restart: what closes then may have been folded before.
        """
        if not self._late or not progress.closed or self.behind:
            return progress
        *before, newest = progress.closed
        newest, self._late = Tick(newest.at, _both(newest.counts, self._late)), {}
        return replace(progress, closed=(*before, newest))

    def _see(self, grown: Tick) -> None:
        """A tick got more: everything but gates looks at traffic as it stands."""
        self._traffic.remember((self._wall(grown.at), grown.counts), self.look_back)
        for series, counts in grown.counts.items():
            if (period := self._period_of(series, grown.at)) is not None:
                self._stays.count(period, series, counts)

    def _settle(self, tick: Tick) -> None:
        at = self._wall(tick.at)
        row_at = at - at % ROW_SECONDS
        if row_at != self._archive.row_at:
            self.flush()
            self._archive.turn(row_at)
        for series, counts in tick.counts.items():
            period = self._period_of(series, tick.at)
            if period is None:
                continue
            stream = (series.route, series.arm, series.experiment, series.group)
            profile = Profile()
            profile.count(counts)
            self._archive.add(period.number, stream, profile)
            if period is self._periods[-1]:
                self._strata.of(at, series.route, series.arm).add_sums(profile)
        self._settled_to = tick.at + 1

    def flush(self) -> None:
        """Store what is settled and not yet stored; to be called every few seconds."""
        self._archive.flush(
            self._periods, self._now(), self.rated_at, anchor=self._anchor, settled_to=self._settled_to
        )
        self.stored_to = self._settled_to

    def close(self) -> None:
        """The process ends: what is open counts as it stands. Then store everything."""
        for tick in list(self._fold.standing()):
            self._settle(tick)
        self.flush()

    def _wall(self, at: int) -> int:
        return (at + self._anchor) // 1000

    def standing(self, since: int = 0) -> tuple[Tick, ...]:
        """The ticks from `since` on that are not settled, as they stand now, oldest first."""
        return tuple(self._fold.standing(since))

    def open_heads(self) -> tuple[Tick, ...]:
        """The quarters whose heads are not all known, as they stand now, oldest first."""
        return tuple(self._fold.open_heads())

    @property
    def behind(self) -> bool:
        """True while there is more in the newest reports than one `take` does: call it again soon."""
        return self._fold.behind

    @property
    def reported_to(self) -> int:
        """What they say of open requests is no older than this, in monotonic milliseconds."""
        return self._fold.reported_to

    # --- what it amounts to -----------------------------------------------------------------

    def evidence(self, gate: MetricsThreshold) -> Evidence:
        """What a gate is judged by: settled traffic since the windows last began."""
        treatment = self._settled_treatment()
        samples: dict[str, Sample] = {
            "error_rate": Proportion(treatment.answered, treatment.failures),
            "performance_degradation": self._strata.contrast(),
        }
        samples |= {metric: _sample(metric, score) for metric, score in treatment.scores.items()}
        limit = next((one.comparison.value for one in gate.thresholds if one.metric == "response_time"), None)
        quantile = treatment.quantile(1 - _RESPONSE_TIME_SHARE)
        if limit is not None and quantile is not None:
            beyond = treatment.beyond(limit)
            samples["response_time"] = Exceedance(treatment.successes, beyond, _RESPONSE_TIME_SHARE, quantile)
        return Evidence(treatment.answered, samples, self.sample_ratio_ok())

    def _settled_treatment(self) -> Profile:
        profile = Profile()
        if self._periods:
            for stream, part in self._archive.totals.get(self._periods[-1].number, {}).items():
                if stream[1] == _TREATMENT:
                    profile.add(part)
        return profile

    def recent(self) -> Mapping[tuple[str, str], Profile]:
        """Traffic by (route, arm) over the last `look_back` seconds, what is open as it stands.

        Of any period; at most an hour, and to ten seconds. For use at once: it is added to later.
        """
        return self._traffic.recent(self._since)

    def recent_contrast(self) -> Contrast:
        """The latencies behind `performance_degradation` over the same traffic as `recent`."""
        return self._traffic.contrast(self._since)

    def view(self, span: Span) -> View:
        """Traffic as people read it; what is open as it stands."""
        found = self._views.get(span)
        if found is None:
            found = self._views[span] = self._view(span)
        return found

    def _view(self, span: Span) -> View:
        now = self._now()
        if span is Span.WINDOW:
            return view_of(now - self.look_back, now, self.recent(), self.recent_contrast())
        if not self._periods:
            return view_of(now, now, {}, self._strata.contrast())
        stay = self._stays.of(self._periods[-1])
        return view_of(stay.since, now, stay.row, self._strata.contrast())

    def series(self, since: float, step: int) -> tuple[Point, ...]:
        """The course of both arms from Unix second `since` on, in steps of so many seconds.

        Ten seconds at least. At most LONGEST back; see `control.traffic` for what of it is fine and known.
        """
        return self._traffic.points(since, max(step, ROW_SECONDS))

    @property
    def _since(self) -> float:
        """Where the window that is looked back on begins, in Unix seconds."""
        return self._wall(round(self._monotonic() * 1000)) - min(self.look_back, MOST_RECENT)

    def phases(self) -> tuple[PhaseMetrics, ...]:
        """Every stay in a phase that the store still knows, oldest first, with what is open as it stands."""
        return self._stays.metrics()


MOST_KEPT_PERIODS = 64
"""Periods handed on to the next control process: those that unsettled ticks may still belong to."""


def _sample(metric: str, score: Score) -> Sample:
    if metric in _COUNTED_SCORES:
        return Proportion(score.count, score.bad)
    return Mean(score.count, score.total, score.squares)


def _both(one: Mapping[Series, Counts], other: Mapping[Series, Counts]) -> dict[Series, Counts]:
    both = dict(one)
    for series, counts in other.items():
        both[series] = add(both[series], counts) if series in both else counts
    return both
