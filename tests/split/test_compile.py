"""From a config and a position to the snapshot: shares, groups, upstreams, what is left out."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.compile import Position, compile_snapshot, initial_position
from gateway.core.shares import share_of
from gateway.core.split import Table
from gateway.model.codec import decode, encode
from gateway.model.config import Config
from gateway.model.deployment import merge
from gateway.model.snapshot import (
    FULL_SHARE,
    Arm,
    HashKind,
    HealthCheck,
    OutlierDetection,
    Snapshot,
    Timeouts,
)
from gateway.model.units import TokenFile
from tests.support.deciding import decide
from tests.support.examples import examples

MINIMAL: dict[str, Any] = {
    "upstreams": {
        "traditional": {"endpoints": ["http://127.0.0.1:9001"]},
        "dspy": {"endpoints": ["http://127.0.0.1:9002", "http://127.0.0.1:9003"]},
        "candidate": {"endpoints": ["http://127.0.0.1:9004"]},
    },
    "routes": [{"name": "default", "control": "traditional", "treatment": "dspy"}],
}


def config_of(**changes: Any) -> Config:
    """The smallest config, with `changes` laid upon it."""
    return Config.model_validate(merge(MINIMAL, changes))


def compiled(config: Config, phase: str | None = None, ceiling: Fraction | None = None) -> Snapshot:
    """The config's snapshot, at its initial phase unless another is given."""
    position = Position(phase or config.deployment.initial_phase, ceiling)
    return compile_snapshot(config, position, digest="abc", version=3)


def with_experiment(groups: dict[str, Any], **experiment: Any) -> Config:
    """A config whose only route runs an experiment with these groups."""
    return config_of(
        routes=[{"name": "default", "control": "traditional", "treatment": "dspy", "experiment": "exp"}],
        deployment={"experiments": {"exp": {"seed": "s", "groups": groups, **experiment}}},
    )


def test_the_rollout_begins_at_the_initial_phase() -> None:
    """Without any history the position is the config's initial phase under no ceiling."""
    assert initial_position(config_of(deployment={"initial_phase": "canary"})) == Position("canary", None)


def test_a_phase_gives_its_share_flags_and_level() -> None:
    """What the current phase says is in the snapshot, percentages as exact integers."""
    canary = {"user_percentage": 33.3, "feature_flags": ["a", "b"], "monitoring_level": "error"}
    snapshot = compiled(
        config_of(deployment={"phases": {"canary": canary}, "rollout_salt": "salt"}), "canary"
    )
    assert (snapshot.version, snapshot.digest, snapshot.phase) == (3, "abc", "canary")
    assert (snapshot.feature_flags, snapshot.log_level) == (("a", "b"), "error")
    assert (snapshot.enrolment.salt, snapshot.enrolment.share) == ("salt", share_of(Fraction(333, 10)))
    assert snapshot.user_percentage == 33.3


@pytest.mark.parametrize(
    ("ceiling", "percentage"), [(None, 10), (Fraction(100), 10), (Fraction(1, 2), 0.5), (Fraction(0), 0)]
)
def test_a_ceiling_caps_the_percentage(ceiling: Fraction | None, percentage: float) -> None:
    """The smaller of the phase's percentage and the ceiling counts."""
    snapshot = compiled(config_of(), "limited_production", ceiling)
    assert snapshot.user_percentage == percentage
    assert snapshot.enrolment.share == share_of(Fraction(percentage))


def test_a_phase_with_dspy_switched_off_enrols_nobody() -> None:
    """`dspy_enabled: false` sends everybody to control whatever the percentage says."""
    phases = {"canary": {"user_percentage": 100, "dspy_enabled": False}}
    snapshot = compiled(config_of(deployment={"phases": phases}), "canary")
    assert (snapshot.enrolment.share, snapshot.user_percentage) == (0, 0)


def test_an_unknown_phase_is_an_error() -> None:
    """There is no snapshot of a phase that the config has not."""
    with pytest.raises(KeyError, match="nowhere"):
        compiled(config_of(), "nowhere")


def test_groups_are_served_as_their_configuration_says() -> None:
    """True is the route's treatment, false or nothing its control; a named upstream decides over both."""
    config = with_experiment(
        {
            "control": {"weight": 1, "configuration": {"dspy_enabled": False}},
            "treatment": {"weight": 1, "configuration": {"dspy_enabled": True}},
            "silent": {"weight": 1},
            "own": {"weight": 1, "upstream": "candidate"},
            "disguised": {"weight": 1, "upstream": "traditional", "configuration": {"dspy_enabled": True}},
        }
    )
    snapshot = compiled(config)
    [route] = snapshot.routes
    assert route.experiment is not None
    served = {
        group.name: (snapshot.upstreams[group.upstream].name, group.arm) for group in route.experiment.groups
    }
    assert served == {
        "control": ("traditional", Arm.CONTROL),
        "treatment": ("dspy", Arm.TREATMENT),
        "silent": ("traditional", Arm.CONTROL),
        "own": ("candidate", Arm.TREATMENT),
        "disguised": ("traditional", Arm.CONTROL),
    }


def test_a_groups_configuration_travels_as_text() -> None:
    """Whatever a group's configuration holds arrives as names and texts."""
    groups = {"a": {"weight": 1, "configuration": {"dspy_enabled": True, "optimizer": "mipro", "shots": 4}}}
    experiment = compiled(with_experiment(groups)).routes[0].experiment
    assert experiment is not None
    assert dict(experiment.groups[0].configuration) == {
        "dspy_enabled": "true",
        "optimizer": "mipro",
        "shots": "4",
    }


@pytest.mark.parametrize("enabled", [True, False])
def test_only_an_enabled_experiment_runs(enabled: bool) -> None:
    """One that is switched off is not there: the enrolled are all in treatment."""
    [route] = compiled(with_experiment({"a": {"weight": 1}}, enabled=enabled)).routes
    assert (route.experiment is not None) is enabled


def test_an_experiment_that_no_route_names_is_left_out() -> None:
    """Routes carry the experiments that they name, and no others."""
    deployment = {"experiments": {"exp": {"groups": {"a": {"weight": 1}}}}}
    assert compiled(config_of(deployment=deployment)).routes[0].experiment is None


def test_xxh3_keeps_the_order_and_sha256_sorts_by_name() -> None:
    """Ours cuts the groups as written, in 2**64; the mission's formula by name, in weights."""
    groups = {"z": {"weight": 30}, "a": {"weight": 50}, "m": {"weight": 20}}
    ours, theirs = (compiled(with_experiment(groups, hash=kind)).routes[0].experiment for kind in HashKind)
    assert ours is not None
    assert theirs is not None
    assert [group.name for group in ours.groups] == ["z", "a", "m"]
    assert ours.total == FULL_SHARE
    assert [(group.name, group.start, group.end) for group in theirs.groups] == [
        ("a", 0, 50),
        ("m", 50, 70),
        ("z", 70, 100),
    ]
    assert theirs.total == 100


def test_header_names_are_lower_case_and_values_exact() -> None:
    """Routes are matched against parsed heads, whose names are in lower case."""
    match = {"path_prefix": "/v1", "methods": ["POST"], "headers": {"X-Step-Type": "Generate"}}
    route = {"name": "steps", "match": match, "control": "traditional", "treatment": "dspy"}
    [compiled_route] = compiled(config_of(routes=[route])).routes
    assert compiled_route.headers == (("x-step-type", "Generate"),)
    assert (compiled_route.path_prefix, compiled_route.methods) == ("/v1", ("POST",))


def test_the_overrides_carry_the_tokens_content() -> None:
    """Workers compare secrets; they read no files."""
    token = TokenFile(Path("token"), "s3cret")
    users = {"treatment": ["qa-1"], "control": ["ceo"]}
    overrides = compiled(config_of(overrides={"token_file": token, "users": users})).overrides
    assert (overrides.token, overrides.treatment, overrides.control) == ("s3cret", ("qa-1",), ("ceo",))
    assert compiled(config_of()).overrides.token is None


def test_upstreams_keep_their_endpoints_and_deadlines() -> None:
    """Durations are seconds, null is none, and what is not written is off."""
    upstream = {
        "endpoints": ["http://127.0.0.1:9002", "unix:/run/dspy.sock"],
        "health_check": {"path": "/up", "interval": "2s"},
        "outlier_detection": {},
        "timeouts": {"connect": "250ms", "total": None},
    }
    traditional, dspy, _ = compiled(config_of(upstreams={"dspy": upstream})).upstreams
    assert (traditional.health_check, traditional.outlier_detection) == (None, None)
    assert dspy.endpoints == ("http://127.0.0.1:9002", "unix:/run/dspy.sock")
    assert dspy.timeouts == Timeouts(connect=0.25, first_byte=60.0, idle=60.0, total=None)
    assert dspy.health_check == HealthCheck("/up", 2.0, 1.0, healthy_after=2, unhealthy_after=3)
    assert dspy.outlier_detection == OutlierDetection(5, 30.0, on_5xx=False)


weights = st.integers(0, 1000) | st.decimals(0, 1000, places=2).map(Fraction)
group_weights = st.dictionaries(
    st.from_regex("[a-z]{1,8}", fullmatch=True), weights, min_size=1, max_size=8
).filter(lambda groups: any(groups.values()))


@examples(50)
@given(
    group_weights,
    st.sampled_from(HashKind),
    st.fractions(0, 100, max_denominator=1000),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
def test_compiling_is_a_function_and_leaves_no_hole(
    groups: dict[str, Fraction], kind: HashKind, percentage: Fraction, seed: str
) -> None:
    """Same input, same snapshot; it travels as bytes; ranges cover [0, total); everybody has a group."""
    written = {name: {"weight": weight} for name, weight in groups.items()}
    config, again = (with_experiment(written, hash=kind, seed=seed) for _ in range(2))
    snapshot = compiled(config, ceiling=percentage)
    assert snapshot == compiled(again, ceiling=percentage)
    assert decode(Snapshot, encode(snapshot)) == snapshot
    experiment = snapshot.routes[0].experiment
    assert experiment is not None
    assert (experiment.groups[0].start, experiment.groups[-1].end) == (0, experiment.total)
    assert all(one.end == other.start for one, other in pairwise(experiment.groups))
    assert decide(Table(compiled(config)), "user-1").group in groups
