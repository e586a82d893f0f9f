"""What conclusions mean for the rollout, wherever it stands: a table, and what holds for all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence.assessment import Verdict
from gateway.core.reactions import Conclusion, reactions
from gateway.model.rollout import (
    BeginDrain,
    BeginHold,
    BeginTrial,
    Cause,
    EndHold,
    EndTrial,
    Event,
    HoldKind,
    Pause,
    Rollback,
)
from tests.support.rollouts import ANN, Drive, make_rules

conclusions = st.builds(
    Conclusion, st.sampled_from(Verdict), st.just("because"), st.floats(0, 2000), st.booleans()
)


def apply(drive: Drive, found: Conclusion) -> list[Event]:
    """React, and take the steps; what they were."""
    events = list(reactions(found, drive.state))
    for event in events:
        assert drive.apply(event).refusal is None
    return events


@given(st.lists(conclusions, max_size=20), st.sampled_from(["", "pause", "drain"]), st.booleans())
def test_a_reaction_is_always_legal_and_asking_twice_is_doing_it_once(
    found: list[Conclusion], standing: str, asks: bool
) -> None:
    """In every state that reactions lead to."""
    drive = Drive(make_rules(rollback_needs_approval=asks)).go_to("full_production")
    if standing:
        drive.apply(Pause(operator=ANN) if standing == "pause" else BeginDrain(operator=ANN))
    for each in found:
        apply(drive, each)
        assert list(reactions(each, drive.state)) == []


def test_a_rollback_carries_its_evidence() -> None:
    """Into the history, by the gateway's own hand."""
    found = Conclusion(Verdict.ROLL_BACK, "worse", evidence={"value": 1200.0})
    (event,) = reactions(found, Drive().go_to("canary").state)
    assert isinstance(event, Rollback)
    assert (event.operator, event.cause, event.evidence) == ("gateway", Cause.EVIDENCE, {"value": 1200.0})


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        (Verdict.HOLD, HoldKind.EVIDENCE),
        (Verdict.TRIAL, HoldKind.EVIDENCE),
        (Verdict.SHARED_OUTAGE, HoldKind.SHARED_OUTAGE),
    ],
)
def test_what_gathers_holds(verdict: Verdict, kind: HoldKind) -> None:
    """Until it is quiet, and well below where the hold began."""
    drive = Drive().go_to("canary")
    (hold,) = apply(drive, Conclusion(verdict, "gathers", 50.0))
    assert isinstance(hold, BeginHold)
    assert hold.kind is kind
    assert apply(drive, Conclusion(Verdict.QUIET, "falls", 7.0)) == []
    (end,) = apply(drive, Conclusion(Verdict.QUIET, "gone", 4.0))
    assert isinstance(end, EndHold)
    assert drive.state.holds == ()


def test_a_cap_is_a_trial_until_it_is_not_wanted() -> None:
    """At half of the users; and not while everybody is on the way out."""
    drive = Drive().go_to("full_production")
    trial, _ = apply(drive, Conclusion(Verdict.TRIAL, "nobody on control", 0.0, caps_share=True))
    assert isinstance(trial, BeginTrial)
    assert drive.published[-1].percentage == 50
    assert apply(drive, Conclusion(Verdict.TRIAL, "goes on", 0.0, caps_share=True)) == []
    end, _ = apply(drive, Conclusion(Verdict.QUIET, "well again", 0.0))
    assert isinstance(end, EndTrial)
    assert drive.published[-1].percentage == 100
    drive.apply(BeginDrain(operator=ANN))
    assert not any(
        isinstance(event, BeginTrial)
        for event in reactions(Conclusion(Verdict.TRIAL, "late", caps_share=True), drive.state)
    )


@given(conclusions)
def test_under_the_latch_there_is_nothing_to_conclude(found: Conclusion) -> None:
    """Everything is on control: what was found is about nobody."""
    drive = Drive().go_to("canary")
    drive.roll_back()
    assert reactions(found, drive.state) == ()
