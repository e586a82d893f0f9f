"""What people can do about what they are told: there is a word for everything, and it can be typed."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.core import advice
from gateway.core.alerts import MISSING_TRAFFIC
from gateway.model.latch import LatchKind
from gateway.model.metrics import Metric
from gateway.model.rollout import (
    BeginDrain,
    BeginHold,
    BeginTrial,
    Cause,
    Emergency,
    Event,
    HoldKind,
    LatchInPlace,
    Notify,
    Release,
    Rollback,
)
from gateway.model.snapshot import Arm
from tests.support.rollouts import Drive

ALERTS = [(metric.value, arm.label) for metric in Metric for arm in Arm]
MANUAL = (Path(__file__).parents[2] / "docs/operations.md").read_text()
NAMED = re.findall(r"`(\w+)`", MANUAL[MANUAL.index("| what the gateway calls it") :].split("\n\n")[0])
CONDITIONS = [(name, "") for name in NAMED if name not in list(Metric) and "_" in name]
SAID = [
    *(advice.on_alert(name, arm) for name, arm in (*ALERTS, *CONDITIONS)),
    *(advice.on_hold(kind) for kind in HoldKind),
    *(text for name, text in vars(advice).items() if name.isupper() and isinstance(text, str)),
]


@pytest.mark.parametrize(("name", "arm"), [*ALERTS, *CONDITIONS])
def test_there_is_advice_for_every_alert(name: str, arm: str) -> None:
    """Metrics of both arms, and whatever else the manual names."""
    assert advice.on_alert(name, arm)


def test_an_alert_s_type_says_more_than_its_arm() -> None:
    """Missing traffic is treatment's, and no reason to roll it back."""
    assert "explain" in advice.on_alert(MISSING_TRAFFIC, "treatment")
    assert "rollback" in advice.on_alert("error_rate", "treatment")
    assert "Repair control" in advice.on_alert("error_rate", "control")


@pytest.mark.parametrize("text", sorted(set(SAID)))
def test_what_it_says_to_type_are_commands(text: str) -> None:
    """What stands in backquotes, and nothing else of the kind stands without them."""
    typed = re.findall(r"`gateway (\w+)[^`]*`", text)
    assert set(typed) <= set(COMMANDS)
    assert not re.search(rf"(?<!`)gateway ({'|'.join(COMMANDS)})", text)


@pytest.mark.parametrize(
    "event",
    [
        Rollback(operator="ann", reason="bad"),
        Rollback(operator="ann", reason="bad", cause=Cause.EVIDENCE),
        Emergency(operator="ann"),
        LatchInPlace(operator="gateway", reason="the state is lost", kind=LatchKind.STATE),
        BeginDrain(operator="ann"),
        BeginTrial(operator="gateway", reason="nobody to compare with", cap=Fraction(50)),
        *(
            BeginHold(operator="gateway", kind=kind)
            for kind in HoldKind
            if kind is not HoldKind.PENDING_ROLLBACK
        ),
    ],
    ids=lambda event: type(event).__name__,
)
def test_whoever_is_woken_is_told_what_to_do(event: Event) -> None:
    """Everything critical or high that the rollout says, and its end: the release."""
    drive = Drive().go_to("canary")
    drive.apply(event)
    notices = list(drive.effects(Notify))
    if drive.state.latch is not None:
        drive.apply(Release(operator="ann", engagement=drive.state.engagement))
        notices += drive.effects(Notify)
    assert notices
    assert all(isinstance(notice, Notify) and notice.advice for notice in notices)


def test_a_rollback_that_waits_names_both_ways_to_answer_it() -> None:
    """It is the one message that somebody has to answer."""
    text = advice.on_hold(HoldKind.PENDING_ROLLBACK)
    assert "gateway approve rollback" in text
    assert "gateway reject rollback" in text
