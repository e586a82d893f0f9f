"""The monitor: every look at the ticks updates the evidence, and what follows goes to the rollout.

A look folds, judges and acts in one go, as soon as ticks arrive. A rollback flips the latch before
anything else, so the time from the deciding tick to the last treatment request is short. The findings
stay readable until the next look.

It knows the order of things and none of their rules: evidence is in `core.evidence`, the plain threshold
in `thresholds`, absence in `core.system_failure`, and what a conclusion means in `core.reactions`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gateway import logs
from gateway.control.monitoring.control_answers import ControlAnswers
from gateway.control.monitoring.dossier import Dossier
from gateway.control.monitoring.forecast import Exposed, counted_unit, forecasts, in_words
from gateway.control.monitoring.thresholds import Window, breach
from gateway.control.monitoring.traffic import Traffic
from gateway.control.monitoring.views import absence, conclusion, detections, evidence
from gateway.control.monitoring.views import limits as limits_view
from gateway.control.monitoring.vital_signs import Endpoints, in_stay, judged, sign_of
from gateway.control.rollout.desk import NotReleased, Outdated, Refused, RolloutDesk
from gateway.control.rollout.views import Document
from gateway.control.store.api import NotDurableError
from gateway.control.windows import Windows
from gateway.core.evidence.assessment import Assessment, Parameters, Verdict, assess
from gateway.core.evidence.foresight import foresee
from gateway.core.evidence.gathering import Limits, Look
from gateway.core.evidence.state import EvidenceState
from gateway.core.folding import Progress
from gateway.core.limits import RollbackLimit, rollback_limits, watches_system_failure
from gateway.core.reactions import Conclusion, reactions
from gateway.core.rollout import GATEWAY
from gateway.core.system_failure import Obstacle, is_system_failure
from gateway.model.deployment import Deployment
from gateway.model.metrics import Metric
from gateway.model.rollout import Cause, Event, Rollback
from gateway.model.safety import OnSharedOutage, RollbackDecision
from gateway.model.snapshot import Snapshot
from gateway.model.units import format_duration

SAVE_INTERVAL = 10.0
"""Seconds between two writes of the evidence at most: what a restart has to fold again. It and the windows'
sums are written together: what is in the one and not in the other would be folded twice, or never."""
MOST_WAITING = 600
"""Looks that may wait for their turn, should the monitor fail again and again; beyond, the oldest go."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the monitor looks at beside the ticks."""

    desk: RolloutDesk
    windows: Windows
    snapshot: Callable[[], Snapshot]
    """The newest that was published."""
    endpoints: Endpoints


class Monitor:
    """See the module. `take` is given what became known, `run` does the rest."""

    def __init__(
        self, scene: Scene, dossier: Dossier, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.assessment: Assessment | None = None
        """What the evidence came to at the last look; None before the first."""
        self.traffic = Traffic()
        self._scene = scene
        self._dossier = dossier
        self._monotonic = monotonic
        seconds = self._deployment.monitoring.window
        self._window = Window(seconds)
        since = max(dossier.state.began, round((monotonic() - seconds) * 1000))
        self._window.restore(scene.windows.restored, since, dossier.anchor)
        self._control = ControlAnswers()
        self._waiting: deque[Progress] = deque(maxlen=MOST_WAITING)
        self._came = asyncio.Event()
        self._looked_at = self._saved_at = monotonic()
        self._stored_to = scene.windows.stored_to

    def __repr__(self) -> str:
        return f"<Monitor {self._dossier!r}>"

    # --- what is told ---------------------------------------------------------------------------

    def take(self, progress: Progress, *, more: bool = False) -> None:
        """Ticks became known; where `more` follow at once, no look is taken between. Never waits or fails."""
        self._waiting.append(progress)
        if not more:
            self._came.set()

    def expose(self, snapshot: Snapshot) -> None:
        """A snapshot was published; its requests count, though another may follow before the next look."""
        self._dossier.expose(snapshot)

    def restart_evidence(self) -> None:
        """Another stay of treatment begins, with the newest snapshot: nothing is known of it."""
        self._dossier.restart(self._scene.desk.state.epoch, self._scene.snapshot())
        self._window.restart()
        self.assessment = None

    # --- what is seen ---------------------------------------------------------------------------

    @property
    def dossier(self) -> Dossier:
        """The evidence itself."""
        return self._dossier

    @property
    def limits(self) -> dict[Metric, RollbackLimit]:
        """The limits of the current phase."""
        phase = self._scene.desk.position.phase
        return dict(rollback_limits(self._deployment, phase))

    @property
    def control_fails(self) -> bool:
        """Whether control was lately shown to fail beyond the limit that treatment is judged by."""
        return self._control.beyond(self._limits().error_rate)

    def document(self) -> Document:
        """Evidence, limits, and a treatment that is away, for `status`."""
        policy, state, limits = self._deployment.rollback, self._dossier.state, self.limits
        began = (state.began + self._dossier.anchor) / 1000
        exposed = Exposed(self.traffic.rate(), state.share, self.traffic.lasting)
        limit = limits.get(Metric.ERROR_RATE)
        found = () if limit is None else forecasts(limit.value, self._deployment, exposed)
        return {
            "evidence": evidence(self.assessment, policy.decision, policy.unit, began)
            | {"detection": detections(found), "detection_in_words": in_words(found, exposed)},
            "limits": limits_view(limits),
            "treatment_absence": self._absence(),
        }

    def _absence(self) -> Document | None:
        """What becomes of a treatment that is away; None while it is there, as far as is known."""
        seen, endpoints = self._dossier.absence, self._scene.endpoints
        if endpoints.treatment_healthy() and not seen.lasted:
            return None
        after = self._deployment.rollback.system_failure_after
        return absence(seen, after, self._obstacle(), control_healthy=endpoints.control_healthy())

    @property
    def _deployment(self) -> Deployment:
        return self._scene.desk.loaded.config.deployment

    # --- a look ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: look as soon as something became known, and act on what was found."""
        while True:
            await self._came.wait()
            self._came.clear()
            self.look()
            await self.act()

    def look(self) -> None:
        """Fold everything that waits, and judge."""
        now = self._monotonic()
        progress = self._gathered()
        scene, dossier = self._scene, self._dossier
        dossier.follow(scene.snapshot(), on_trial=scene.desk.state.trial is not None)
        ours = in_stay(progress, dossier.state)
        self._control.add(progress.grown, now, self._control_seconds)
        dossier.note(sign_of(ours.closed, scene.endpoints), now - self._looked_at)
        self._looked_at = now
        self._fold(ours)
        self.assessment = self._foreseen(self._assess(dossier.state, now), now)
        if scene.windows.stored_to != self._stored_to or now - self._saved_at >= SAVE_INTERVAL:
            scene.windows.flush()
            dossier.save()
            self._stored_to, self._saved_at = scene.windows.stored_to, now

    @property
    def _control_seconds(self) -> float:
        """How far back control is asked whether it is well: no longer than treatment has to be gone."""
        deployment = self._deployment
        return min(deployment.rollback.system_failure_after, deployment.monitoring.window)

    def _gathered(self) -> Progress:
        """All that waits, as one progress; nothing waits any more."""
        waiting = tuple(self._waiting)
        self._waiting.clear()
        return Progress(
            tuple(tick for progress in waiting for tick in progress.closed),
            tuple(tick for progress in waiting for tick in progress.settled),
            tuple(tick for progress in waiting for tick in progress.grown),
        )

    def _fold(self, progress: Progress) -> None:
        windows, deployment = self._scene.windows, self._deployment
        closed = tuple(map(judged, progress.closed))
        settled = tuple(map(judged, progress.settled))
        seen = Look(
            closed=closed,
            settled=settled,
            standing=tuple(map(judged, windows.standing(self._dossier.state.watched_to))),
            reported_to=windows.reported_to,
            interval=round(deployment.monitoring.interval * 1000),
            anchor=self._dossier.anchor,
        )
        self._dossier.add(seen, self._limits(), deployment.rollback.unit)
        self.traffic.seconds = self._window.seconds = deployment.monitoring.window
        self.traffic.add(closed, counted_unit(deployment.rollback))
        if deployment.rollback.decision is RollbackDecision.THRESHOLD:
            self._window.add(Progress(closed, settled, tuple(map(judged, progress.grown))))

    def _limits(self) -> Limits:
        values = {metric: limit.value for metric, limit in self.limits.items()}
        return Limits(
            values.get(Metric.ERROR_RATE),
            values.get(Metric.PERFORMANCE_DEGRADATION),
            values.get(Metric.USER_SATISFACTION),
        )

    def _assess(self, state: EvidenceState, now: float, **changes: Any) -> Assessment:
        policy = self._deployment.rollback
        parameters = Parameters(
            policy.false_rollback_probability, policy.minimum_failures, policy.on_shared_outage, policy.unit
        )
        return assess(
            state,
            self._limits(),
            replace(parameters, **changes),
            now=round(now * 1000),
            control_healthy=self._scene.endpoints.control_healthy(),
        )

    def _foreseen(self, found: Assessment, now: float) -> Assessment:
        """A verdict that will be, however the open requests end: nobody has to wait for the slowest head."""
        limit, policy, state = self._limits().error_rate, self._deployment.rollback, self._dossier.state
        if found.verdict is Verdict.ROLL_BACK or limit is None:
            return found
        ticks = tuple(map(judged, self._scene.windows.open_heads()))
        sure = foresee(
            state, ticks, limit, policy.unit, anchor=self._dossier.anchor, failures=policy.minimum_failures
        )
        if sure is state:
            return found
        # Control's open requests count as failures there: that is no outage of both arms.
        foreseen = self._assess(sure, now, on_shared_outage=OnSharedOutage.HOLD)
        return foreseen if foreseen.verdict is Verdict.ROLL_BACK else found

    def close(self) -> None:
        """The process ends: fold what is still waiting, for the sums have it, and keep everything."""
        self.look()
        self._dossier.save()

    # --- what follows ---------------------------------------------------------------------------

    async def act(self) -> None:
        """Tell the rollout what follows from the last look."""
        for event in self._events():
            try:
                await self._scene.desk.apply(event)
            except (Refused, Outdated, NotReleased, NotDurableError) as error:
                logs.warn("monitoring is refused", what=type(event).__name__, reason=str(error))

    def _events(self) -> tuple[Event, ...]:
        state = self._scene.desk.state
        if self._is_system_failure():
            lasted = format_duration(round(self._dossier.absence.lasted))
            reason = f"treatment gave no sign of life for {lasted}, and control is well"
            evidence = {"seconds": round(self._dossier.absence.lasted, 1)}
            cause = Cause.SYSTEM_FAILURE
            return (Rollback(operator=GATEWAY, reason=reason, cause=cause, evidence=evidence),)
        return () if self.assessment is None else reactions(self._conclusion(self.assessment), state)

    def _is_system_failure(self) -> bool:
        after = self._deployment.rollback.system_failure_after
        return is_system_failure(self._dossier.absence, after) and self._obstacle() is None

    def _obstacle(self) -> Obstacle | None:
        """What keeps an absence of treatment from becoming a rollback now."""
        if self._scene.desk.state.latch is not None:
            return Obstacle.LATCHED
        if not watches_system_failure(self._deployment):
            return Obstacle.NOT_WATCHED
        if not self._dossier.absence.was_alive:
            return Obstacle.NEVER_ALIVE
        if not self._scene.endpoints.control_healthy():
            return Obstacle.CONTROL_UNHEALTHY
        return Obstacle.CONTROL_FAILS if self.control_fails else None

    def _conclusion(self, found: Assessment) -> Conclusion:
        if self._deployment.rollback.decision is RollbackDecision.THRESHOLD:
            beyond = breach(self._window, self.limits, self._deployment.rollback.minimum_samples)
            verdict = Verdict.ROLL_BACK if beyond else Verdict.QUIET
            return Conclusion(verdict, beyond, cause=Cause.THRESHOLD)
        return conclusion(found)
