"""The rules of the decision, one by one, in the order in which they apply."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from gateway.core.split import Reason, Table, enrolment_position, experiment_position
from gateway.model.snapshot import Anonymous, Arm, HashKind, Overrides
from tests.support.deciding import decide
from tests.support.snapshots import DSPY, TRADITIONAL, make_experiment, make_route, make_snapshot

GROUPS = {"control": 50, "treatment": 50}
OVERRIDES = Overrides(token="secret", treatment=("qa-1",), control=("ceo",))
TREATMENT_DOWN = (True, False)


def experimenting(percentage: int = 100, **changes: object) -> Table:
    """A table with an even experiment."""
    return Table(make_snapshot(percentage, experiment=make_experiment(GROUPS), **changes))  # type: ignore[arg-type]


def user_in(table: Table, group: str | None) -> str:
    """Some user whom the table puts in the group."""
    return next(user for number in range(1000) if decide(table, user := f"u{number}").group == group)


@given(
    user=st.none() | st.sampled_from(["qa-1", "ceo", "someone"]),
    override=st.none() | st.sampled_from(Arm),
    anonymous=st.sampled_from(Anonymous),
    percentage=st.sampled_from([0, 50, 100]),
    healthy=st.booleans(),
)
def test_the_latch_beats_everything(
    user: str | None, override: Arm | None, anonymous: Anonymous, percentage: int, healthy: bool
) -> None:
    """Under the latch everybody is served by control, out of the analysis, whoever they are."""
    table = experimenting(percentage, anonymous=anonymous, overrides=OVERRIDES)
    decision = decide(table, user, latched=True, override=override, available=(healthy, healthy))
    assert (decision.arm, decision.upstream, decision.reason) == (Arm.CONTROL, TRADITIONAL, Reason.LATCH)
    assert not decision.analysed


@pytest.mark.parametrize(("user", "arm"), [("qa-1", Arm.TREATMENT), ("ceo", Arm.CONTROL)])
@pytest.mark.parametrize("percentage", [0, 100])
def test_a_listed_user_has_their_arm_at_any_percentage(user: str, arm: Arm, percentage: int) -> None:
    """The override lists come before enrolment and stay out of the analysis and of every group."""
    decision = decide(experimenting(percentage, overrides=OVERRIDES), user)
    assert (decision.arm, decision.reason) == (arm, Reason.OVERRIDE)
    assert (decision.group, decision.experiment, decision.analysed) == (None, None, False)


@pytest.mark.parametrize("arm", list(Arm))
@pytest.mark.parametrize("user", ["qa-1", "ceo", "someone", None])
def test_a_token_beats_the_lists_and_needs_no_user(arm: Arm, user: str | None) -> None:
    """Who proves the token chooses the arm of this request."""
    decision = decide(experimenting(overrides=OVERRIDES), user, override=arm)
    assert (decision.arm, decision.reason, decision.analysed) == (arm, Reason.OVERRIDE, False)


def test_an_anonymous_request_goes_to_control() -> None:
    """Without a user id there is nothing to be sticky to, not even at 100 %."""
    decision = decide(experimenting(anonymous=Anonymous.CONTROL), None, draw=b"anything")
    assert (decision.arm, decision.reason, decision.analysed) == (Arm.CONTROL, Reason.NO_IDENTITY, False)


def test_an_anonymous_request_may_be_drawn() -> None:
    """Drawn requests spread over the groups by their draw and stay out of the analysis."""
    table = experimenting(anonymous=Anonymous.RANDOM)
    decisions = [decide(table, None, draw=bytes([number])) for number in range(64)]
    assert {decision.group for decision in decisions} == set(GROUPS)
    assert {decision.reason for decision in decisions} == {Reason.NO_IDENTITY}
    assert not any(decision.analysed for decision in decisions)
    assert all(decide(table, user_in(table, name)).reason is Reason.GROUP for name in GROUPS)


def test_who_is_not_enrolled_is_control_and_counts() -> None:
    """Users beyond the percentage are the control that treatment is compared with."""
    decision = decide(experimenting(0), "someone")
    assert (decision.arm, decision.reason, decision.group) == (Arm.CONTROL, Reason.NOT_ENROLLED, None)
    assert decision.analysed


def test_enrolled_without_an_experiment_is_treatment() -> None:
    """A percentage alone is a plain canary."""
    decision = decide(Table(make_snapshot(100)), "someone")
    assert (decision.arm, decision.upstream) == (Arm.TREATMENT, DSPY)
    assert (decision.reason, decision.group, decision.experiment) == (Reason.NO_EXPERIMENT, None, None)
    assert decision.analysed


def test_a_route_that_only_control_serves_has_no_treatment() -> None:
    """Where both arms are the same upstream nobody is counted for treatment, not even by override."""
    route = replace(make_route(), treatment=TRADITIONAL)
    table = Table(make_snapshot(100, routes=[route], overrides=OVERRIDES))
    assert decide(table, "someone").arm is decide(table, "qa-1").arm is Arm.CONTROL
    assert decide(table, "someone").reason is Reason.NO_EXPERIMENT


@pytest.mark.parametrize(
    ("group", "arm", "upstream"),
    [("control", Arm.CONTROL, TRADITIONAL), ("treatment", Arm.TREATMENT, DSPY)],
)
def test_the_group_decides_the_arm(group: str, arm: Arm, upstream: int) -> None:
    """The enrolled are served by their group's upstream and counted for its arm."""
    table = experimenting()
    decision = decide(table, user_in(table, group))
    assert (decision.arm, decision.assigned, decision.upstream) == (arm, arm, upstream)
    assert (decision.reason, decision.group, decision.experiment) == (Reason.GROUP, group, "exp")
    assert decision.analysed


def test_without_a_healthy_endpoint_control_stands_in_and_the_group_keeps_the_user() -> None:
    """Control answers, but the assigned group and arm stay, and so does the blame."""
    table = experimenting()
    decision = decide(table, user_in(table, "treatment"), available=TREATMENT_DOWN)
    assert (decision.arm, decision.upstream) == (Arm.CONTROL, TRADITIONAL)
    assert decision.reason is Reason.NO_HEALTHY_ENDPOINT
    assert (decision.assigned, decision.group, decision.experiment) == (Arm.TREATMENT, "treatment", "exp")
    assert decision.analysed


def test_an_override_to_treatment_falls_back_as_well() -> None:
    """A tester gets an answer, too; still out of the analysis."""
    decision = decide(experimenting(overrides=OVERRIDES), "qa-1", available=TREATMENT_DOWN)
    assert (decision.arm, decision.reason) == (Arm.CONTROL, Reason.NO_HEALTHY_ENDPOINT)
    assert (decision.assigned, decision.analysed) == (Arm.TREATMENT, False)


@pytest.mark.parametrize("user", ["ceo", None, "someone"])
def test_control_has_nothing_to_fall_back_to(user: str | None) -> None:
    """Requests of control keep their decision however ill control is."""
    table = experimenting(0, overrides=OVERRIDES)
    healthy, ill = (decide(table, user, available=(up, up)) for up in (True, False))
    assert healthy is ill
    assert healthy.fallback is None


def test_decisions_are_numbered_by_their_index() -> None:
    """`index` is the place in `decisions`, so that counters can be kept beside the table."""
    routes = [make_route("a", "/a", experiment=make_experiment(GROUPS)), make_route("b")]
    table = Table(make_snapshot(50, routes=routes))
    assert [decision.index for decision in table.decisions] == list(range(len(table.decisions)))
    fallbacks = [decision.fallback for decision in table.decisions if decision.fallback]
    assert all(table.decisions[fallback.index] is fallback for fallback in fallbacks)


HALF = experimenting(50)


@given(st.text(min_size=1), st.booleans())
def test_deciding_makes_nothing_new(user: str, healthy: bool) -> None:
    """Every decision is one that the table already holds."""
    decision = decide(HALF, user, available=(True, healthy))
    assert HALF.decisions[decision.index] is decision


@given(st.binary(min_size=1))
def test_positions_are_xxh3_of_salt_nul_user(user: bytes) -> None:
    """The two positions are those of the published formula, over the bytes of the id."""
    snapshot = make_snapshot(salt="salz")
    assert enrolment_position(snapshot.enrolment, user) == xxh3_64_intdigest(b"rollout:salz\0" + user)
    experiment = make_experiment(GROUPS, experiment_id="e1", seed="säd")
    expected = xxh3_64_intdigest("experiment:e1:säd".encode() + b"\0" + user)
    assert experiment_position(experiment, user) == expected


def mission_group(user_id: str, seed: str, weights: dict[str, int]) -> str:
    """The mission's `assign_user_to_group`, line by line (Elixir walks a small map in key order)."""
    hash_value = int(hashlib.sha256(f"{user_id}{seed}".encode()).hexdigest(), 16)
    normalized_hash = hash_value % sum(weights.values())
    cumulative_weight = 0
    for group_name in sorted(weights):
        cumulative_weight += weights[group_name]
        if normalized_hash < cumulative_weight:
            return group_name
    raise AssertionError("the weights do not cover the hash")


@given(
    st.text(min_size=1),
    st.text(),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100), min_size=1).filter(
        lambda weights: any(weights.values())
    ),
)
def test_sha256_is_the_missions_own_formula(user: str, seed: str, weights: dict[str, int]) -> None:
    """With `hash: sha256` everybody is in the group that the mission's code would have given."""
    by_name = {name: weights[name] for name in sorted(weights)}
    experiment = make_experiment(by_name, seed=seed, kind=HashKind.SHA256)
    assert decide(Table(make_snapshot(100, experiment=experiment)), user).group == mission_group(
        user, seed, weights
    )
