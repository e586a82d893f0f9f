"""The explanation is the decision, with the figures that led to it."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.explain import Question, explain
from gateway.core.split import Reason, Table, enrolment_position, experiment_position
from gateway.model.snapshot import FULL_SHARE, Anonymous, HashKind, Overrides
from tests.support.deciding import decide
from tests.support.snapshots import make_experiment, make_route, make_snapshot

HEALTHY = (True, True)
WEIGHTS = {"control": 50, "treatment": 25, "candidate": 25}


@given(st.text(min_size=1), st.sampled_from(HashKind), st.booleans(), st.booleans())
def test_it_tells_what_the_workers_do(user: str, kind: HashKind, latched: bool, healthy: bool) -> None:
    """Arm, reason, group and upstream are the table's; positions are the hash's, within ranges."""
    snapshot = make_snapshot(50, experiment=make_experiment(WEIGHTS, kind=kind), overrides=None)
    table, available = Table(snapshot), (True, healthy)
    decision = decide(table, user, latched=latched, available=available)
    explanation = explain(table, Question(user), latched=latched, available=available)
    assert (explanation.arm, explanation.assigned) == (decision.arm.label, decision.assigned.label)
    assert (explanation.reason, explanation.group) == (decision.reason, decision.group)
    assert explanation.upstream == snapshot.upstreams[decision.upstream].name
    assert explanation.enrolment is not None
    assert explanation.enrolment.threshold == 0.5
    assert explanation.enrolment.enrolled is (decide(table, user).reason is not Reason.NOT_ENROLLED)
    assert (
        explanation.enrolment.position == enrolment_position(snapshot.enrolment, user.encode()) / FULL_SHARE
    )
    experiment = table.routes[0].route.experiment
    assert experiment is not None
    assert explanation.position == experiment_position(experiment, user.encode()) / experiment.total
    assert [(part.group, part.start, part.end) for part in explanation.ranges] == [
        ("control", 0, 0.5),
        ("treatment", 0.5, 0.75),
        ("candidate", 0.75, 1),
    ]


def test_it_has_the_keys_of_the_api() -> None:
    """As plain values it is the document that the API promises."""
    table = Table(make_snapshot(100, experiment=make_experiment(WEIGHTS), version=7))
    document = asdict(explain(table, Question("user-1"), latched=False, available=HEALTHY))
    assert {
        "user",
        "route",
        "phase",
        "arm",
        "reason",
        "group",
        "experiment",
        "enrolment",
        "ranges",
        "snapshot",
    } <= set(document)
    assert (document["user"], document["snapshot"], document["experiment"]) == ("user-1", 7, "exp")
    assert {"position", "threshold"} <= set(document["enrolment"])
    assert set(document["ranges"][0]) == {"group", "arm", "start", "end"}


def test_routes_are_matched_by_method_path_and_headers() -> None:
    """The question's request finds its route as the proxy would."""
    routes = [make_route("steps", "/v1", methods=("POST",), headers=(("x-step", "a"),)), make_route("rest")]
    table = Table(make_snapshot(100, routes=routes))

    def route_of(question: Question) -> str | None:
        return explain(table, question, latched=False, available=HEALTHY).route

    assert route_of(Question("u", "/v1/x", "POST", {"x-step": "a"})) == "steps"
    assert route_of(Question("u", "/v1/x", "POST")) == "rest"


def test_a_request_that_no_route_matches() -> None:
    """There is no arm and no reason, but the user's enrolment can be told."""
    table = Table(make_snapshot(100, routes=[make_route("a", "/a")]))
    explanation = explain(table, Question("u", "/b"), latched=False, available=HEALTHY)
    assert (explanation.route, explanation.arm, explanation.reason) == (None, None, None)
    assert explanation.enrolment is not None


@pytest.mark.parametrize(("anonymous", "arm"), [(Anonymous.CONTROL, "control"), (Anonymous.RANDOM, None)])
def test_without_a_user_id(anonymous: Anonymous, arm: str | None) -> None:
    """Nothing is hashed; where each request is drawn afresh no arm can be named."""
    table = Table(make_snapshot(100, anonymous=anonymous, experiment=make_experiment(WEIGHTS)))
    explanation = explain(table, Question(""), latched=False, available=HEALTHY)
    assert (explanation.arm, explanation.reason) == (arm, "no_identity")
    assert (explanation.enrolment, explanation.position, explanation.group) == (None, None, None)


def test_an_override_is_the_reason() -> None:
    """A listed user's positions are told, and that they do not count."""
    overrides = Overrides(token=None, treatment=("qa-1",), control=())
    table = Table(make_snapshot(0, overrides=overrides))
    explanation = explain(table, Question("qa-1"), latched=False, available=HEALTHY)
    assert (explanation.arm, explanation.reason) == ("treatment", "override")
