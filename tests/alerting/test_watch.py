"""Alerts at work over a real store: written down, told, kept over restarts; and what they are raised on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from gateway import logs
from gateway.control.alerting.lookout import Lookout, readings, treatment_share
from gateway.control.alerting.notices import Notice, NoticeKind
from gateway.control.alerting.served import Served
from gateway.control.alerting.watch import (
    BLIND_AFTER,
    CHECKPOINT_INTERVAL,
    DOCUMENT,
    AlertWatch,
    levels_of,
    resolved_view,
)
from gateway.control.ledger import Ledger
from gateway.control.monitoring.monitor import Monitor
from gateway.control.windows import Windows
from gateway.core.percentage import effective_percentage
from gateway.core.sums import Profile
from gateway.model.alerts import Condition, Grounds, Look, Reading, Severity
from gateway.model.gates import Contrast, Stratum
from gateway.model.metrics import Metric
from gateway.model.rollout import ROLLBACK_GATE, BeginHold, Cause, EndHold, HoldKind, Reject, Rollback
from gateway.model.scores import Score
from gateway.model.ticks import Counts, bucket_of
from tests.support.configs import complete, load_text
from tests.support.control import CONFIG, make_counts, make_gateway, make_observation
from tests.support.polling import soon
from tests.support.snapshots import make_snapshot
from tests.support.wiring import ANN, Room, Scene, refusing_disk

WINDOW = 300.0
ERRORS = ("error_rate", "treatment")


@dataclass
class People:
    """Whom the watch tells."""

    told: list[Notice] = field(default_factory=list)
    standing: object = None

    def tell(self, notice: Notice) -> None:
        self.told.append(notice)


@dataclass
class Watching:
    """A watch over what the test says is measured."""

    scene: Scene
    room: Room
    rate: float | None = 0.0
    conditions: tuple[Condition, ...] = ()
    people: People = field(default_factory=People)
    watch: AlertWatch = field(init=False)

    def __post_init__(self) -> None:
        alerts = self.room.desk.loaded.config.deployment.monitoring.alerts
        self.watch = AlertWatch(
            self.room.store,
            self.room.history,
            self.people,  # type: ignore[arg-type]
            self.measured,
            levels=lambda: levels_of(alerts),
            digest=lambda: "digest",
            now=lambda: self.scene.now,
        )

    def measured(self) -> Look:
        found = () if self.rate is None else (Reading(Metric.ERROR_RATE, "treatment", self.rate, 1000),)
        return Look(self.scene.now, WINDOW, found, self.conditions)

    async def look(self, rate: float | None, seconds: float = 0.0) -> None:
        self.rate = rate
        self.scene.now += seconds
        await self.watch.look()

    @property
    def changes(self) -> list[str]:
        """What the history says of alerts."""
        events = [event for event in self.room.history.recent(500) if event.type == "alert"]
        return [event.evidence["change"] for event in events]


async def test_what_changes_is_in_the_history_and_told(scene: Scene) -> None:
    """Raised, graver, milder, over: each with value, threshold, window, samples and arm."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        await watching.look(0.012)
        await watching.look(0.5, 2.0)
        for _ in range(3):
            await watching.look(0.012, WINDOW)
        for _ in range(3):
            await watching.look(0.0, WINDOW)
        assert watching.changes == ["raised", "worsened", "eased", "resolved"]
        first = room.history.recent(4)[0]
        entries = await room.store.newest(4)
    assert (first.operator, first.digest, first.origin, first.target) == ("gateway", "digest", None, None)
    assert first.evidence | {"message": ""} == {
        "change": "raised",
        "resolved": False,
        "type": "error_rate",
        "arm": "treatment",
        "severity": "medium",
        "worst": "medium",
        "message": "",
        "since": "2027-01-15T08:00:00.000Z",
        "value": 0.012,
        "threshold": 0.01,
        "window": WINDOW,
        "samples": 1000,
        "calm_since": None,
        "calm_until": None,
    }
    assert [entry.type for _, entry in entries] == ["alert"] * 4
    assert [notice.kind for notice in watching.people.told] == [
        NoticeKind.FIRING,
        NoticeKind.FIRING,
        NoticeKind.UPDATED,
        NoticeKind.RESOLVED,
    ]
    assert [notice.severity for notice in watching.people.told] == [
        "medium",
        "critical",
        "medium",
        "critical",
    ]


async def test_alert_lines_are_printed_whatever_the_level(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As audit lines."""
    levels: list[logs.Level] = []
    async with scene.control() as room:
        watching = Watching(scene, room)
        monkeypatch.setattr(logs, "_say", lambda level, event, fields: levels.append(level))
        await watching.look(0.5)
    assert levels == [logs.Level.AUDIT]


async def test_an_alert_stands_over_a_restart_and_nobody_is_told_again(scene: Scene) -> None:
    """Since when it stands and since when it has been calm are kept, too."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        await watching.look(0.5)
        since = watching.watch.active[0].since
        await watching.look(0.0, 2.0)
        await watching.look(0.0, CHECKPOINT_INTERVAL)
    async with scene.control(with_kept=False) as room:
        watching = Watching(scene, room)
        assert [(alert.key, alert.since) for alert in watching.watch.active] == [(ERRORS, since)]
        await watching.look(0.0, 2 * WINDOW - CHECKPOINT_INTERVAL)
        assert watching.watch.active == ()
        assert [notice.kind for notice in watching.people.told] == [NoticeKind.RESOLVED]


async def test_while_the_disk_refuses_alerts_are_raised_all_the_same(scene: Scene) -> None:
    """And written when it can be."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        with refusing_disk():
            await watching.look(0.5)
            assert (watching.changes, len(watching.people.told)) == (["raised"], 1)
        await watching.look(1.0, 2.0)
        assert watching.watch.counts()["error_rate", "critical"] == 1


async def test_what_cannot_be_read_is_no_reason_to_stand_still(scene: Scene) -> None:
    """A later version's document, or junk: begin afresh, and say so."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        await watching.look(0.5)
        stored = room.store.document(DOCUMENT)
        assert stored is not None
        room.store.checkpoint(DOCUMENT, type(stored)(stored.version, json.dumps({"standing": [1]})))
        watching = Watching(scene, room)
        assert watching.watch.active == ()
        await watching.look(0.5)
        assert len(watching.watch.active) == 1


async def test_counts_are_zero_where_nothing_stands(scene: Scene) -> None:
    """So that a rule on them can tell silence from absence."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        assert set(watching.watch.counts().values()) == {0}
        assert ("shared_outage", "critical") in watching.watch.counts()


async def test_a_hold_is_told_by_the_rollout_and_alertmanager_learns_that_it_lasts(scene: Scene) -> None:
    """People are not told twice that both arms fail; but that it is over."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        watching.conditions = (Condition("shared_outage", Severity.CRITICAL, "both fail"),)
        await watching.look(None)
        watching.conditions = ()
        await watching.look(None, 2.0)
    assert [notice.kind for notice in watching.people.told] == [NoticeKind.UPDATED, NoticeKind.RESOLVED]


async def test_a_resolved_alert_is_shown_from_its_last_line(scene: Scene) -> None:
    """As it was, and when it ended."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        await watching.look(0.5)
        raised = room.history.recent(1)[0]
        for _ in range(3):
            await watching.look(0.0, WINDOW)
        shown = resolved_view(room.history.recent(1)[0])
    assert resolved_view(raised) is None
    assert shown is not None
    assert (shown["type"], shown["worst"]) == ("error_rate", "critical")
    assert shown["resolved_at"] > shown["since"]


# --- what is measured -----------------------------------------------------------------------------


def profile(
    answered: int, errors: int = 0, seconds: float = 0.1, scores: dict[str, Score] | None = None
) -> Profile:
    found = Profile()
    good = answered - errors
    latencies = {bucket_of(seconds): good} if good else {}
    found.count(Counts(answered, answered, errors, ended=answered, latencies=latencies, scores=scores or {}))
    return found


def test_an_arm_is_measured_over_all_its_routes() -> None:
    """Errors, the 90th percentile, and what was reported; each with its samples."""
    recent = {
        ("one", "treatment"): profile(60, errors=6, scores={"accuracy": Score(2, 1.5, 1.25)}),
        ("two", "treatment"): profile(40, seconds=2.0),
        ("one", "control"): profile(50),
    }
    found = {(one.metric, one.arm): one for one in readings(recent, Contrast(()))}
    assert found.keys() == {
        (Metric.ERROR_RATE, "treatment"),
        (Metric.RESPONSE_TIME, "treatment"),
        (Metric.ACCURACY, "treatment"),
        (Metric.ERROR_RATE, "control"),
        (Metric.RESPONSE_TIME, "control"),
    }
    errors = found[Metric.ERROR_RATE, "treatment"]
    assert (errors.value, errors.samples) == (0.06, 100)
    assert errors.noise == pytest.approx((0.06 * 0.94 / 100) ** 0.5)
    p90 = found[Metric.RESPONSE_TIME, "treatment"]
    assert (p90.value, p90.samples) == (pytest.approx(2.0, rel=0.005), 94)
    accuracy = found[Metric.ACCURACY, "treatment"]
    assert (accuracy.value, accuracy.samples) == (0.75, 2)


def test_the_slowdown_has_as_many_samples_as_the_smaller_arm() -> None:
    """A hundred of treatment against five of control say no more than five."""
    arms = Contrast((Stratum(100, -1.0, 0.1, 5, -1.5, 0.1),))
    (found,) = readings({}, arms)
    assert (found.metric, found.samples) == (Metric.PERFORMANCE_DEGRADATION, 5)
    assert found.value == pytest.approx(0.6487, abs=1e-4)
    assert list(readings({}, Contrast(()))) == []


@dataclass
class Traffic:
    """Windows that hold what the test says."""

    recently: dict[tuple[str, str], Profile] = field(default_factory=dict)
    look_back: float = WINDOW

    def recent(self) -> dict[tuple[str, str], Profile]:
        return self.recently

    def recent_contrast(self) -> Contrast:
        return Contrast(())


NOBODY = Served(Ledger().totals)
"""No request at all."""


def test_treatment_s_share_is_that_of_its_groups_among_the_enrolled() -> None:
    """Ten percent enrolled, three quarters of them in treatment's groups."""
    snapshot = make_snapshot(10)
    plain = treatment_share(snapshot, snapshot.routes[0].name)
    assert plain == pytest.approx(0.1)
    assert treatment_share(snapshot, "no such route") == 0.0


async def test_missing_traffic_is_looked_for_once_the_share_has_stood_for_a_window(scene: Scene) -> None:
    """An advance a moment ago is no reason to miss anybody."""
    scene.text = "deployment: {initial_phase: limited_production}"
    async with scene.control() as room:
        snapshot = make_snapshot(10)
        traffic = Traffic({(snapshot.routes[0].name, "control"): profile(1000)})
        lookout = Lookout(
            traffic,  # type: ignore[arg-type]
            room.desk,
            lambda: snapshot,
            dict,
            NOBODY,
            lambda: scene.now,
        )
        assert effective_percentage(room.desk.state, room.desk.rules) == Fraction(10)
        assert lookout.look().conditions == ()
        scene.now += WINDOW
        (found,) = lookout.look().conditions
        assert found.type == "missing_treatment_traffic"
        await room.desk.apply(Rollback(operator=ANN))
        look = lookout.look()
        assert (look.conditions, look.unserved) == ((), frozenset(("treatment",)))


async def test_users_without_an_id_are_missed_too(scene: Scene) -> None:
    """Clients that stop to send it are answered by control and count for no arm: the totals know of them."""
    scene.text = "deployment: {initial_phase: limited_production}"
    async with scene.control() as room:
        snapshot = make_snapshot(10)
        traffic, ledger = Traffic(), Ledger()
        lookout = Lookout(
            traffic,  # type: ignore[arg-type]
            room.desk,
            lambda: snapshot,
            dict,
            Served(ledger.totals),
            lambda: scene.now,
        )
        served = 0

        def look(requests: int, arm: str = "control") -> list[str]:
            nonlocal served
            served += requests
            ledger.take([make_observation("one", 1, make_counts(arm, [(200, "ok", served)]))])
            scene.now += WINDOW / 10
            return [one.message for one in lookout.look().conditions]

        assert [look(100) for _ in range(10)] == [[]] * 10  # not watched for a window yet
        (said,) = look(100)
        assert "10 % of 1000 should have been its own; none of them said who its user is" in said
        assert [look(0) for _ in range(10)][-1] == []  # nobody is there
        assert [look(100, "treatment") for _ in range(12)][-1] == []  # anonymous: random
        assert [look(100) for _ in range(12)][-1] != []
        traffic.recently = {("default", "control"): profile(100)}
        assert look(100) == []  # some say who they are, and they are few


def test_totals_are_forgotten_when_the_clock_is_set_back() -> None:
    """They are of times to come: what was served since is not known."""
    ledger = Ledger()
    served = Served(ledger.totals)
    assert served.lately(1000.0, 10.0) == {}
    ledger.take([make_observation("one", 1, make_counts("control", [(200, "ok", 7)]))])
    assert served.lately(1010.0, 10.0) == {("default", "control"): 7}
    assert served.lately(500.0, 10.0) == {}


async def test_control_is_unserved_where_treatment_gets_everybody(scene: Scene) -> None:
    async with scene.control() as room:
        for percentage, unserved in ((100, frozenset(("control",))), (99, frozenset())):
            snapshot = make_snapshot(percentage)
            lookout = Lookout(Traffic(), room.desk, lambda: snapshot, dict, NOBODY)  # type: ignore[arg-type]  # noqa: B023
            assert lookout.look().unserved == unserved


async def test_holds_and_lasting_faults_are_conditions(scene: Scene) -> None:
    """A fault counts when it is there twice: a worker that is replaced is no alarm."""
    scene.text = "deployment: {rollback: {manual_approval_required: true}}"
    async with scene.control() as room:
        faults: dict[str, str] = {}
        lookout = Lookout(
            Traffic(),  # type: ignore[arg-type]
            room.desk,
            lambda: make_snapshot(10),
            lambda: faults,
            NOBODY,
            lambda: scene.now,
            lambda kind: Grounds(0.5, 0.02, 40, 7.0) if kind is HoldKind.SHARED_OUTAGE else Grounds(),
        )
        await room.desk.apply(BeginHold(operator="gateway", reason="both fail", kind=HoldKind.SHARED_OUTAGE))
        (outage,) = lookout.look().conditions
        assert (outage.value, outage.threshold, outage.samples, outage.window) == (0.5, 0.02, 40, 7.0)
        await room.desk.apply(BeginHold(operator="gateway", reason="E = 20", kind=HoldKind.EVIDENCE))
        faults["no_worker"] = "no worker is running"
        assert [one.type for one in lookout.look().conditions] == ["shared_outage"]
        types = {one.type: one.severity.value for one in lookout.look().conditions}
        assert types == {"no_worker": "critical", "shared_outage": "critical"}
        await room.desk.apply(EndHold(operator="gateway", kind=HoldKind.SHARED_OUTAGE))
        await room.desk.apply(Rollback(operator="gateway", reason="asks", cause=Cause.EVIDENCE))
        faults.clear()
        (waiting,) = lookout.look().conditions
        assert (waiting.type, waiting.severity.value) == ("pending_rollback", "critical")
        await room.desk.apply(Reject(operator=ANN, gate=ROLLBACK_GATE))
        assert lookout.look().conditions == ()


# --- in a control process -------------------------------------------------------------------------


def test_levels_are_the_config_s(tmp_path: Path) -> None:
    """Metrics without levels are not watched."""
    text = (
        "deployment: {monitoring: {alerts: {response_time: null, accuracy: {warning: 0.9, critical: 0.8}}}}"
    )
    levels = levels_of(load_text(tmp_path, complete(text)).config.deployment.monitoring.alerts)
    assert levels.keys() == {Metric.ERROR_RATE, Metric.PERFORMANCE_DEGRADATION, Metric.ACCURACY}
    assert (levels[Metric.ACCURACY].warning, levels[Metric.ACCURACY].critical) == (0.9, 0.8)


@pytest.mark.socket
async def test_of_a_task_that_keeps_failing_people_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody watches the restarts of one gateway; what fails may be the rollback itself."""
    monkeypatch.setattr(Monitor, "run", _fail)
    gateway = make_gateway(tmp_path, CONFIG)
    async with gateway.control() as client:
        await client.status()
        keeper, alerts = client.controller._tasks, client.controller._parts.alerts
        await soon(lambda: bool(keeper.keep_failing))
        for _ in range(2):
            await alerts.look()
        alerts_now = {alert["type"]: alert for alert in (await client.status())["alerts"]}
        lines = [line["evidence"] for line in await client.history() if line["type"] == "alert"]
    alert = alerts_now["control_task_failing"]
    assert alert["severity"] == "critical"
    assert alert["message"].startswith("monitor: fails again and again")
    assert [line["change"] for line in lines if line["type"] == "control_task_failing"] == ["raised"]


async def test_a_watch_that_keeps_failing_tells_of_itself_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No alert could: it is the watch that raises them."""
    async with scene.control() as room:
        watching = Watching(scene, room)
        monkeypatch.setattr(watching.watch, "look", _fail)
        for _ in range(BLIND_AFTER + 2):
            with pytest.raises(ValueError, match="injected"):
                await watching.watch.run()
        (notice,) = watching.people.told
    assert (notice.kind, notice.severity) == (NoticeKind.HAPPENED, Severity.CRITICAL)


async def _fail(*_: object) -> None:
    raise ValueError("injected")


@pytest.mark.socket
async def test_an_alert_is_seen_in_status_the_api_and_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that it states; the gateway's own faults stand beside it."""
    recent = {("default", "treatment"): profile(100, errors=50), ("default", "control"): profile(100)}
    monkeypatch.setattr(Windows, "recent", lambda self: recent)
    gateway = make_gateway(tmp_path, CONFIG)
    gateway.report(make_observation("a", 11))
    async with gateway.control() as client:
        await client.status()
        await client.controller._parts.alerts.look()
        status = await client.status()
        _, alerts = await client.ask("GET", "/api/v1/alerts")
        _, none = await client.ask("GET", "/api/v1/alerts?state=resolved")
        metrics = await client.metrics()
        assert (await client.ask("GET", "/api/v1/alerts?state=old"))[0] == 400
    (alert,) = status["alerts"]
    assert (alert["type"], alert["arm"], alert["severity"], alert["value"], alert["samples"]) == (
        "error_rate",
        "treatment",
        "critical",
        0.5,
        100,
    )
    assert (alerts, none) == ([alert | {"resolved_at": None}], [])
    assert 'gateway_alerts_active{severity="critical",type="error_rate"} 1.0' in metrics
    assert 'gateway_alerts_active{severity="high",type="error_rate"} 0.0' in metrics
