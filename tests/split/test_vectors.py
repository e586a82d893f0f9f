"""The published vectors hold: whoever implements them puts every user where the gateway does."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.core.split import Table, enrolment_position, experiment_position
from gateway.model.snapshot import HashKind
from tests.support.deciding import decide
from tests.support.snapshots import make_experiment, make_snapshot

PUBLISHED = json.loads((Path(__file__).parents[1] / "vectors" / "split.json").read_text("utf-8"))
VECTORS: list[dict[str, Any]] = PUBLISHED["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_a_published_vector_holds(vector: dict[str, Any]) -> None:
    """Positions, threshold, borders, enrolment and group are those that were published."""
    kind = HashKind(vector["hash"])
    weights = {group["name"]: Fraction(group["weight"]) for group in vector["groups"]}
    if kind is HashKind.SHA256:
        weights = dict(sorted(weights.items()))
    experiment = make_experiment(weights, experiment_id=vector["experiment"], seed=vector["seed"], kind=kind)
    snapshot = make_snapshot(Fraction(vector["percentage"]), salt=vector["salt"], experiment=experiment)
    user = vector["user"].encode()
    position = enrolment_position(snapshot.enrolment, user)
    assert str(position) == vector["enrolment_position"]
    assert str(snapshot.enrolment.share) == vector["threshold"]
    assert (position < snapshot.enrolment.share) is vector["enrolled"]
    assert str(experiment_position(experiment, user)) == vector["experiment_position"]
    assert [str(group.end) for group in experiment.groups] == vector["group_ends"]
    assert decide(Table(snapshot), vector["user"]).group == vector["group"]


def test_the_vectors_cover_what_they_are_for() -> None:
    """Both hashes, both ends of the scale, and both answers at percentages that are hard to hit."""
    assert {vector["hash"] for vector in VECTORS} == {"xxh3", "sha256"}
    answers = {(vector["percentage"], vector["enrolled"]) for vector in VECTORS}
    assert {("0", False), ("100", True)} <= answers
    for percentage in ("0.1", "1", "33.3", "99.999"):
        assert {(percentage, True), (percentage, False)} <= answers
    assert not {("0", True), ("100", False)} & answers
