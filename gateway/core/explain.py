"""Why a user is served by an arm: the decision with the figures that led to it.

`explain` asks the same table that the workers use, so it cannot differ from what they do. Its answer holds
plain values only, ready to be printed or sent. It does not know how the table was made, nor how an answer is
shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.core.split import Decision, Reason, Table, enrolment_position, experiment_position
from gateway.model.snapshot import FULL_SHARE, Anonymous, Enrolment, Experiment, Upstream


@dataclass(frozen=True, slots=True)
class Question:
    """A request to explain. `user` is the id, "" for none; header names in lower case."""

    user: str
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A user's position and the threshold that it must be under to be enrolled, both in [0, 1].

    `enrolled` is that comparison as the split makes it, in integers.
    """

    position: float
    threshold: float
    enrolled: bool


@dataclass(frozen=True, slots=True)
class Range:
    """A group's slice [start, end) of its experiment, in [0, 1]."""

    group: str
    arm: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision for one request and what it was made of; its fields are the keys of the API.

    `arm` serves and `assigned` takes credit and blame; both are None where no route matches (`route`
    and `reason` are None as well) and where every request is drawn afresh. `enrolment` and `position`
    are None without a user id. `position` is the user's place among `ranges`, the groups of the
    route's `experiment`; `group` is the one that counts the request, None if none does. `snapshot` is
    the version that was asked, `digest` names its config.
    """

    user: str
    phase: str
    enrolment: Bucket | None
    snapshot: int
    digest: str
    route: str | None = None
    arm: str | None = None
    assigned: str | None = None
    reason: str | None = None
    upstream: str | None = None
    group: str | None = None
    experiment: str | None = None
    position: float | None = None
    ranges: tuple[Range, ...] = ()


def explain(table: Table, question: Question, *, latched: bool, available: Sequence[bool]) -> Explanation:
    """The decision for a question, given the latch and which upstreams have a healthy endpoint."""
    snapshot = table.snapshot
    user = _sent(question.user)
    explanation = Explanation(
        user=question.user,
        phase=snapshot.phase,
        enrolment=_bucket(snapshot.enrolment, user) if user else None,
        snapshot=snapshot.version,
        digest=snapshot.digest,
    )
    headers = {_sent(name): _sent(value) for name, value in question.headers.items()}
    route = table.match(_sent(question.method), _sent(question.path), headers)
    if route is None:
        return explanation
    if experiment := route.route.experiment:
        explanation = _with_experiment(explanation, experiment, user)
    decision = table.decide(route, latched, available, user or None, None, draw=b"")
    drawn = decision.reason is Reason.NO_IDENTITY and snapshot.identity.anonymous is Anonymous.RANDOM
    return _with_decision(explanation, decision, None if drawn else snapshot.upstreams[decision.upstream])


def _sent(text: str) -> bytes:
    """The bytes that a request would hold; those of a command line that are no UTF-8 as they came."""
    return text.encode(errors="surrogateescape")


def _bucket(enrolment: Enrolment, user: bytes) -> Bucket:
    position = enrolment_position(enrolment, user)
    return Bucket(position / FULL_SHARE, enrolment.share / FULL_SHARE, enrolled=position < enrolment.share)


def _with_experiment(explanation: Explanation, experiment: Experiment, user: bytes) -> Explanation:
    total = experiment.total
    return replace(
        explanation,
        experiment=experiment.id,
        position=experiment_position(experiment, user) / total if user else None,
        ranges=tuple(
            Range(group.name, group.arm.label, group.start / total, group.end / total)
            for group in experiment.groups
        ),
    )


def _with_decision(explanation: Explanation, decision: Decision, upstream: Upstream | None) -> Explanation:
    """The route and the reason; who serves only where that is certain."""
    explanation = replace(explanation, route=decision.route.name, reason=decision.reason.value)
    if upstream is None:
        return explanation
    return replace(
        explanation,
        arm=decision.arm.label,
        assigned=decision.assigned.label,
        upstream=upstream.name,
        group=decision.group,
    )
