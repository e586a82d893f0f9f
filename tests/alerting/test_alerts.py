"""When an alert is raised, how grave it is, and when it is over: pure, over windows of five minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.store.encoding import from_json, to_json
from gateway.core.alerts import MINIMUM_SAMPLES, MISSING_TRAFFIC, assess, missing_traffic, severity_of
from gateway.model.alerts import (
    GRAVITY,
    AlertState,
    Change,
    ChangeKind,
    Condition,
    Levels,
    Look,
    Reading,
    Severity,
)
from gateway.model.metrics import Metric

NOW = 1_800_000_000.0
WINDOW = 300.0
LEVELS = {
    Metric.ERROR_RATE: Levels(0.01, 0.02),
    Metric.RESPONSE_TIME: Levels(5.0, 10.0),
    Metric.USER_SATISFACTION: Levels(0.95, 0.9),
}
ERRORS = ("error_rate", "treatment")


class Watcher:
    """Looks again and again, and remembers what was told."""

    def __init__(self, levels: dict[Metric, Levels] = LEVELS) -> None:
        self.state = AlertState()
        self.levels = levels
        self.now = NOW
        self.told: list[Change] = []

    def look(
        self,
        *readings: Reading,
        seconds: float = 0.0,
        conditions: tuple[Condition, ...] = (),
        unserved: frozenset[str] = frozenset(),
    ) -> tuple[Change, ...]:
        """One look, so many seconds after the last."""
        self.now += seconds
        found = Look(self.now, WINDOW, readings, conditions, unserved)
        self.state, changes = assess(self.state, found, self.levels)
        self.told += changes
        return changes

    def errors(self, rate: float, seconds: float = 0.0, samples: int = 1000, noise: float = 0.0) -> list[str]:
        """A look at an error rate; what was told."""
        reading = Reading(Metric.ERROR_RATE, "treatment", rate, samples, noise)
        return [change.kind.value for change in self.look(reading, seconds=seconds)]

    @property
    def severity(self) -> str | None:
        """Of the only alert that stands."""
        active = self.state.active
        assert len(active) <= 1
        return active[0].severity.value if active else None


# --- severities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "severity"),
    [
        (0.0, None),
        (0.0099, None),
        (0.01, "medium"),
        (0.0149, "medium"),
        (0.015, "high"),
        (0.0199, "high"),
        (0.02, "critical"),
        (1.0, "critical"),
    ],
)
def test_how_grave_it_is_goes_by_where_it_lies_between_the_levels(rate: float, severity: str | None) -> None:
    """Nothing below warning, medium up to the middle, high up to critical."""
    watcher = Watcher()
    watcher.errors(rate)
    assert watcher.severity == severity


def test_alerts_are_triggered_when_thresholds_are_exceeded() -> None:
    """The strategy's own test: an error rate over its threshold is among the recent alerts."""
    watcher = Watcher()
    watcher.errors(0.05)
    (alert,) = watcher.state.active
    assert (alert.type, alert.arm, alert.value, alert.threshold, alert.window, alert.samples) == (
        "error_rate",
        "treatment",
        0.05,
        0.02,
        WINDOW,
        1000,
    )
    assert alert.message == (
        "error rate of treatment is 5 % over 5m (1000 samples); warning from 1 %, critical from 2 %"
    )


@pytest.mark.parametrize(
    ("rating", "severity"), [(0.96, None), (0.95, "medium"), (0.92, "high"), (0.9, "critical")]
)
def test_a_metric_that_should_be_large_is_bad_when_it_is_small(rating: float, severity: str | None) -> None:
    """Satisfaction, whose warning lies above its critical level."""
    watcher = Watcher()
    watcher.look(Reading(Metric.USER_SATISFACTION, "treatment", rating, 100))
    assert watcher.severity == severity


@pytest.mark.parametrize(
    ("warning", "critical", "badness", "severity"),
    [
        (0.1, None, 5.0, Severity.MEDIUM),
        (None, 0.2, 0.19, None),
        (None, 0.2, 0.2, Severity.CRITICAL),
        (0.2, 0.2, 0.2, Severity.CRITICAL),
        (None, None, 1.0, None),
    ],
)
def test_a_level_that_is_missing_is_never_reached(
    warning: float | None, critical: float | None, badness: float, severity: Severity | None
) -> None:
    """Without critical it stays medium; without warning there is nothing below critical."""
    assert severity_of(badness, warning, critical) is severity


def test_both_arms_are_watched() -> None:
    """An alert says whose it is."""
    watcher = Watcher()
    watcher.look(*(Reading(Metric.ERROR_RATE, arm, 0.5, 100) for arm in ("control", "treatment")))
    assert {alert.arm for alert in watcher.state.active} == {"control", "treatment"}


def test_too_few_samples_say_nothing() -> None:
    """Neither that it is bad, nor, later, that it is good again."""
    watcher = Watcher()
    assert watcher.errors(1.0, samples=MINIMUM_SAMPLES - 1) == []
    assert watcher.errors(1.0, samples=MINIMUM_SAMPLES) == ["raised"]
    for _ in range(100):
        assert watcher.errors(0.0, seconds=WINDOW, samples=MINIMUM_SAMPLES - 1) == []
    assert watcher.severity == "critical"


def test_a_metric_without_levels_is_not_watched() -> None:
    """Not even where one stood before the config lost them: that one is over at once."""
    watcher = Watcher()
    watcher.look(Reading(Metric.ACCURACY, "treatment", 0.0, 100))
    assert watcher.severity is None
    watcher.errors(0.5)
    watcher.levels = {}
    assert watcher.errors(0.5) == ["resolved"]


# --- the life of an alert -------------------------------------------------------------------------


def test_what_lasts_is_told_once_and_again_when_it_is_graver() -> None:
    """A thousand looks are one message."""
    watcher = Watcher()
    assert watcher.errors(0.012) == ["raised"]
    assert [watcher.errors(0.013, seconds=2.0) for _ in range(1000)] == [[]] * 1000
    assert watcher.errors(0.03) == ["worsened"]
    assert watcher.errors(0.03) == []
    (alert,) = watcher.state.active
    assert (alert.since, alert.severity, alert.worst) == (NOW, "critical", "critical")


def test_it_is_over_after_three_windows_a_tenth_below_the_warning() -> None:
    """The first of them ends where it is calm for the first time, the third two windows later."""
    watcher = Watcher()
    watcher.errors(0.5)
    assert watcher.errors(0.0089, seconds=2.0) == []
    assert watcher.errors(0.0089, seconds=2 * WINDOW - 0.1) == []
    assert watcher.errors(0.0089, seconds=0.1) == ["resolved"]
    assert watcher.severity is None
    assert "3 windows of 5m" in watcher.told[-1].reason
    assert watcher.told[-1].alert.worst is Severity.CRITICAL


def test_a_calm_alert_says_what_it_was_raised_for_and_when_it_is_over() -> None:
    """Never "critical" beside a value that is none without the value that was."""
    watcher = Watcher()
    watcher.errors(0.05)
    watcher.errors(0.0, seconds=2.0)
    watcher.errors(0.001, seconds=90.0)
    (alert,) = watcher.state.active
    assert alert.message == (
        "calm for 1m30s (0.1 % now), over in 8m30s if it stays so; raised for: "
        "error rate of treatment is 5 % over 5m (1000 samples); warning from 1 %, critical from 2 %"
    )
    assert (alert.severity, alert.value) == (Severity.CRITICAL, 0.001)
    assert (alert.calm_since, alert.calm_until) == (NOW + 2.0, NOW + 2.0 + 2 * WINDOW)


def test_a_calm_alert_that_would_ease_says_to_what() -> None:
    """It is not over then; and what it is raised for is then what it eased to."""
    watcher = Watcher()
    watcher.errors(0.05)
    watcher.errors(0.012, seconds=WINDOW)
    assert "(1.2 % now), medium only in 10m if it stays so" in watcher.state.active[0].message
    assert watcher.errors(0.012, seconds=2 * WINDOW) == ["eased"]
    (alert,) = watcher.state.active
    assert alert.message == alert.cause
    assert alert.calm_since is alert.calm_until is None
    assert "is 1.2 %" in alert.message


def test_an_interrupted_calm_is_not_told_any_more() -> None:
    """Neither with a value nor while there is too little to say."""
    watcher = Watcher()
    watcher.errors(0.05)
    for rate, samples in ((0.05, 1000), (0.0, 3)):
        watcher.errors(0.0, seconds=2.0)
        assert watcher.state.active[0].message.startswith("calm for 0s")
        watcher.errors(rate, seconds=2.0, samples=samples)
        (alert,) = watcher.state.active
        assert alert.message.startswith("error rate of treatment is 5 %")
        assert alert.calm_since is None


def test_calm_of_an_arm_that_nobody_is_sent_to_says_so_and_does_not_grow() -> None:
    """Its words are made of what it was raised for, not of the words of the look before."""
    watcher = Watcher()
    watcher.errors(0.05)
    for _ in range(3):
        watcher.look(seconds=2.0, unserved=frozenset(("treatment",)))
    message = watcher.state.active[0].message
    assert message.startswith("calm for 4s (nothing to measure), over in 9m56s if it stays so; raised for: ")
    assert message.count("raised for") == 1


def test_a_value_below_its_level_that_is_not_calm_says_why_the_alert_stands() -> None:
    """It would flap otherwise, and the text would contradict its severity."""
    watcher = Watcher()
    watcher.errors(0.012)
    watcher.errors(0.0095, seconds=2.0)
    assert watcher.state.active[0].message.endswith("; not yet a tenth better than what it was raised for")
    watcher.errors(0.012, seconds=2.0)
    assert "not yet" not in watcher.state.active[0].message


@pytest.mark.parametrize("rate", [0.0091, 0.0099])
def test_a_little_below_the_warning_is_not_over(rate: float) -> None:
    """It would flap."""
    watcher = Watcher()
    watcher.errors(0.012)
    for _ in range(20):
        assert watcher.errors(rate, seconds=WINDOW) == []


def test_calm_that_is_interrupted_begins_anew() -> None:
    """Three windows in a row, not three of any."""
    watcher = Watcher()
    watcher.errors(0.012)
    for _ in range(10):
        assert watcher.errors(0.0, seconds=WINDOW) == []
        assert watcher.errors(0.0, seconds=WINDOW) == []
        assert watcher.errors(0.012, seconds=WINDOW) == []


def test_it_eases_to_the_worst_of_three_windows() -> None:
    """As slowly as it would end; its worst is not forgotten."""
    watcher = Watcher()
    watcher.errors(0.5)
    watcher.errors(0.011, seconds=WINDOW)
    watcher.errors(0.016, seconds=WINDOW)
    assert watcher.errors(0.011, seconds=WINDOW) == ["eased"]
    (alert,) = watcher.state.active
    assert (alert.severity, alert.worst) == ("high", "critical")


def test_easing_on_the_way_does_not_put_off_the_end() -> None:
    """Three windows under the warning are enough, whatever was above a graver level before them."""
    watcher = Watcher()
    watcher.errors(0.5)
    told = [watcher.errors(rate, seconds=WINDOW) for rate in (0.016, 0.0, 0.0, 0.0)]
    assert told == [[], [], ["eased"], ["resolved"]]


def test_an_alert_that_eases_is_never_told_with_a_value_that_is_none() -> None:
    """It was worse within these windows: the words say what it was raised for, and that it is calm."""
    watcher = Watcher()
    watcher.errors(0.5)
    watcher.errors(0.016, seconds=WINDOW)
    watcher.errors(0.0, seconds=WINDOW)
    assert watcher.errors(0.0, seconds=WINDOW) == ["eased"]
    change = watcher.told[-1]
    assert change.reason == "error_rate of treatment is high only: better for 3 windows of 5m"
    assert change.alert.message.startswith(
        "calm for 5m (0 % now), over in 5m if it stays so; raised for: error rate of treatment is 50 %"
    )


def test_too_few_samples_leave_an_alert_as_it_is_and_it_says_so() -> None:
    """Once, however often it is looked at: the value in its words is an old one."""
    watcher = Watcher()
    watcher.errors(0.05)
    cause = watcher.state.active[0].message
    for _ in range(3):
        assert watcher.errors(0.0, seconds=WINDOW, samples=MINIMUM_SAMPLES - 1) == []
        (alert,) = watcher.state.active
        assert alert.message == f"{cause}; fewer than 30 samples now, too few to judge by"
    assert watcher.look(seconds=WINDOW) == ()
    assert watcher.state.active[0].message == alert.message


@pytest.mark.parametrize(("metric", "perfect"), [(Metric.ERROR_RATE, 0.0), (Metric.USER_SATISFACTION, 1.0)])
def test_what_is_perfect_is_no_alert_even_where_that_is_the_level(metric: Metric, perfect: float) -> None:
    """A warning of 0 asks to be told of any error, and none is none."""
    watcher = Watcher({metric: Levels(perfect, None)})
    assert watcher.look(Reading(metric, "treatment", perfect, 1000)) == ()
    assert watcher.look(Reading(metric, "treatment", 0.5, 1000)) != ()


def test_an_arm_that_nobody_is_sent_to_calms_down() -> None:
    """After a rollback treatment has no traffic; its alerts end as if all was well."""
    watcher = Watcher()
    watcher.errors(0.5)
    nobody = frozenset(("treatment",))
    assert watcher.look(seconds=2.0, unserved=nobody) == ()
    (change,) = watcher.look(seconds=2 * WINDOW, unserved=nobody)
    assert change.kind is ChangeKind.RESOLVED


@pytest.mark.parametrize("metric", [Metric.ERROR_RATE, Metric.PERFORMANCE_DEGRADATION])
def test_without_control_what_was_said_of_it_ends(metric: Metric) -> None:
    """In full production control has no traffic, and there is nothing that treatment is slower than."""
    watcher = Watcher({metric: Levels(0.1, 0.2)})
    arm = "control" if metric is Metric.ERROR_RATE else "treatment"
    watcher.look(Reading(metric, arm, 0.5, 1000))
    nobody = frozenset(("control",))
    assert watcher.look(seconds=2.0, unserved=nobody) == ()
    (change,) = watcher.look(seconds=2 * WINDOW, unserved=nobody)
    assert change.kind is ChangeKind.RESOLVED


def test_what_an_alert_would_ease_to_is_the_worst_since_it_is_calm() -> None:
    """Its words follow, and end with the calm."""
    watcher = Watcher()
    watcher.errors(0.5)
    assert "calm" not in watcher.state.active[0].message
    watcher.errors(0.0, seconds=2.0)
    assert "over in 10m if it stays so" in watcher.state.active[0].message
    watcher.errors(0.016, seconds=2.0)
    assert "high only in 9m58s if it stays so" in watcher.state.active[0].message
    watcher.errors(0.5, seconds=2.0)
    assert "calm" not in watcher.state.active[0].message


# --- trends ---------------------------------------------------------------------------------------


def test_three_windows_each_worse_than_the_one_before_are_a_trend() -> None:
    """Low, told once, and over when it does not rise any more."""
    watcher = Watcher()
    told = [watcher.errors(rate, seconds=WINDOW) for rate in (0.002, 0.004, 0.006)]
    assert told == [[], [], ["raised"]]
    assert watcher.severity == "low"
    assert "has become worse for 3 windows" in watcher.state.active[0].message
    told = [watcher.errors(0.006, seconds=WINDOW) for _ in range(3)]
    assert told == [[], [], ["resolved"]]


@pytest.mark.parametrize(
    ("rates", "noise", "why"),
    [
        ((0.006, 0.004, 0.007), 0.0, "it fell in between"),
        ((0.001, 0.002, 0.003), 0.0, "it is far below the warning"),
        ((0.004, 0.005, 0.006), 0.001, "it is as likely chance"),
        ((0.006, 0.006, 0.007), 0.0, "it stood still in between"),
    ],
)
def test_what_is_no_trend(rates: tuple[float, ...], noise: float, why: str) -> None:
    """Each window worse, by more than chance, and near to what people care for."""
    watcher = Watcher()
    assert [watcher.errors(rate, seconds=WINDOW, noise=noise) for rate in rates] == [[]] * 3, why


def test_windows_that_overlap_are_no_trend() -> None:
    """Looks come every few seconds; a trend is of windows end to end."""
    watcher = Watcher()
    assert [watcher.errors(rate, seconds=10.0) for rate in (0.002, 0.004, 0.006, 0.008)] == [[]] * 4


def test_a_gap_begins_a_trend_anew() -> None:
    """Nobody knows how it was in between."""
    watcher = Watcher()
    told = [watcher.errors(rate, seconds=3 * WINDOW) for rate in (0.002, 0.004, 0.006, 0.008)]
    assert told == [[]] * 4


# --- conditions -----------------------------------------------------------------------------------


def test_a_condition_stands_as_long_as_it_is_named() -> None:
    """No levels, no windows: raised at once and over at once."""
    watcher = Watcher()
    outage = Condition("shared_outage", Severity.CRITICAL, "both arms fail alike")
    assert [change.kind for change in watcher.look(conditions=(outage,))] == [ChangeKind.RAISED]
    assert watcher.severity == "critical"
    assert watcher.look(conditions=(outage,)) == ()
    assert [change.kind for change in watcher.look()] == [ChangeKind.RESOLVED]
    assert watcher.told[-1].reason == "shared_outage is over"


@pytest.mark.parametrize(
    ("share", "requests", "treatment", "missing"),
    [(0.01, 2000, 0, True), (0.01, 1999, 0, False), (0.01, 2000, 1, False), (0.0, 10_000, 0, False)],
)
def test_missing_traffic_is_low(share: float, requests: int, treatment: int, missing: bool) -> None:
    """Twenty requests should have come, and none did."""
    found = missing_traffic(share, requests, treatment, WINDOW)
    assert (found is not None) is missing
    if found is not None:
        assert (found.type, found.severity, found.arm) == (MISSING_TRAFFIC, Severity.LOW, "treatment")
        watcher = Watcher()
        watcher.look(conditions=(found,))
        (alert,) = watcher.state.active
        assert (alert.value, alert.threshold, alert.window, alert.samples) == (0.0, 20.0, WINDOW, requests)


# --- properties -----------------------------------------------------------------------------------

rates = st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 700), st.integers(0, 100)), max_size=40)


@given(rates)
def test_there_is_one_alert_of_a_kind_and_its_story_is_whole(looks: list[tuple[float, float, int]]) -> None:
    """Raised first, resolved last, in between only graver or milder; and what stands is what was told."""
    watcher = Watcher()
    for rate, seconds, samples in looks:
        watcher.errors(rate, seconds, samples)
    stands: str | None = None
    for change in watcher.told:
        severity = change.alert.severity.value
        match change.kind:
            case ChangeKind.RAISED:
                assert stands is None
            case ChangeKind.WORSENED:
                assert stands is not None
                assert GRAVITY[Severity(severity)] > GRAVITY[Severity(stands)]
            case ChangeKind.EASED:
                assert stands is not None
                assert GRAVITY[Severity(severity)] < GRAVITY[Severity(stands)]
            case ChangeKind.RESOLVED:
                assert stands is not None
                severity = None
        stands = severity
    assert watcher.severity == stands


@given(rates)
def test_it_is_never_milder_than_what_is_seen(looks: list[tuple[float, float, int]]) -> None:
    """Whatever came before, a look with enough samples raises what its value asks for, at once."""
    watcher = Watcher()
    for rate, seconds, samples in looks:
        watcher.errors(rate, seconds, samples)
        wanted = severity_of(rate, 0.01, 0.02)
        if samples >= MINIMUM_SAMPLES and wanted is not None:
            (alert,) = watcher.state.active
            assert GRAVITY[alert.severity] >= GRAVITY[wanted]
            assert GRAVITY[alert.worst] >= GRAVITY[alert.severity]


@given(rates)
def test_the_state_survives_the_store(looks: list[tuple[float, float, int]]) -> None:
    """A restart at any moment changes nothing."""
    watcher, restarted = Watcher(), Watcher()
    for rate, seconds, samples in looks:
        watcher.errors(rate, seconds, samples)
        restarted.state = from_json(AlertState, to_json(restarted.state))
        restarted.errors(rate, seconds, samples)
    assert restarted.told == watcher.told
    assert restarted.state == watcher.state
