"""The rules that a config comes to: which gates stand where, under which ids, bound to what."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from gateway.control.store.encoding import from_json, to_json
from gateway.core.rollout_rules import rollout_rules
from gateway.model.gates import (
    AutomatedTest,
    Gate,
    ManualApproval,
    MetricsThreshold,
    OnNoData,
    Threshold,
    TimeBased,
)
from gateway.model.rollout import AdvanceMode, Rules
from gateway.model.units import Comparison, HttpCall, Operator
from tests.support.configs import complete, load_text

HOUR = 3600.0
LESS = Operator.LESS


def rules_of(folder: Path, snippet: str) -> Rules:
    """The rules of a config, completed."""
    return rollout_rules(load_text(folder, complete(snippet)).config)


def gates_of(rules: Rules, phase: str) -> tuple[Gate, ...]:
    """The gates that lead out of a phase."""
    found = rules.find(phase)
    assert found is not None
    return found.gates


CANARY = """\
deployment:
  phases:
    canary:
      duration: 24h
      success_criteria: {error_rate: < 0.01, user_satisfaction: > 0.95}
      advance: automatic
"""


def test_the_ladder_is_the_missions(tmp_path: Path) -> None:
    """Five phases with their percentages, no gates where none are written."""
    rules = rules_of(tmp_path, "")
    assert [(phase.name, phase.user_percentage) for phase in rules.phases] == [
        ("development", 100),
        ("staging", 100),
        ("canary", 1),
        ("limited_production", 10),
        ("full_production", 100),
    ]
    assert {phase.gates for phase in rules.phases} == {()}
    assert rules.initial_phase == "development"


def test_duration_and_criteria_make_gates(tmp_path: Path) -> None:
    """A time gate and a metrics gate over the same time; the confidence is the monitoring's."""
    rules = rules_of(tmp_path, CANARY)
    assert gates_of(rules, "canary") == (
        TimeBased("canary.limited_production.time_based", 24 * HOUR),
        MetricsThreshold(
            "canary.limited_production.metrics_threshold",
            (
                Threshold("error_rate", Comparison(LESS, 0.01)),
                Threshold("user_satisfaction", Comparison(Operator.GREATER, 0.95)),
            ),
            24 * HOUR,
            300,
            OnNoData.HOLD,
            0.95,
        ),
    )
    canary = rules.find("canary")
    assert canary is not None
    assert canary.advance is AdvanceMode.AUTOMATIC


def test_a_written_gate_replaces_the_made_one_of_its_type(tmp_path: Path) -> None:
    """And stands among the others in the order written; the phase's duration is still the window."""
    gates = """\
  gates:
    canary -> limited_production:
      - {type: manual_approval, approvals: 2, expires: null}
      - {type: time_based, minimum: 1h}
      - {type: manual_approval}
"""
    assert [(gate.id, type(gate)) for gate in gates_of(rules_of(tmp_path, CANARY + gates), "canary")] == [
        ("canary.limited_production.metrics_threshold", MetricsThreshold),
        ("canary.limited_production.manual_approval", ManualApproval),
        ("canary.limited_production.time_based", TimeBased),
        ("canary.limited_production.manual_approval.2", ManualApproval),
    ]


def test_each_type_of_gate_is_taken_over_whole(tmp_path: Path) -> None:
    """Approvals, tests by command and by HTTP, metrics with all their keys."""
    rules = rules_of(
        tmp_path,
        """\
deployment:
  monitoring: {gate_confidence: 0.9}
  gates:
    staging -> canary:
      - {type: manual_approval, approvals: 2, expires: 1h}
      - {type: automated_test, command: [pytest, -q, smoke], timeout: 5m}
      - {type: automated_test, http: http://127.0.0.1:9000/ready, timeout: 10s}
      - type: metrics_threshold
        thresholds: {response_time: < 5s}
        minimum_samples: 1000
        on_no_data: fail
        window: 30m
""",
    )
    prefix = "staging.canary"
    assert gates_of(rules, "staging") == (
        ManualApproval(f"{prefix}.manual_approval", 2, HOUR),
        AutomatedTest(f"{prefix}.automated_test", ("pytest", "-q", "smoke"), None, 300.0),
        AutomatedTest(f"{prefix}.automated_test.2", (), HttpCall("GET", "http://127.0.0.1:9000/ready"), 10.0),
        MetricsThreshold(
            f"{prefix}.metrics_threshold",
            (Threshold("response_time", Comparison(LESS, 5.0)),),
            1800.0,
            1000,
            OnNoData.FAIL,
            0.9,
        ),
    )


def test_the_last_phases_criteria_gate_nothing(tmp_path: Path) -> None:
    """There is nowhere to go from there."""
    rules = rules_of(
        tmp_path,
        "deployment: {phases: {full_production: {success_criteria: {error_rate: < 0.001}, duration: 1h}}}\n",
    )
    assert gates_of(rules, "full_production") == ()


def test_phases_of_ones_own_make_a_ladder(tmp_path: Path) -> None:
    """In the order written, with the gates between neighbours."""
    rules = rules_of(
        tmp_path,
        "deployment: {phases: {dark: {user_percentage: 0}, half: {user_percentage: 50, duration: 1h},"
        " all: {user_percentage: 100}}}\n",
    )
    assert [phase.name for phase in rules.phases] == ["dark", "half", "all"]
    assert [gate.id for gate in gates_of(rules, "half")] == ["half.all.time_based"]
    assert rules.phases[1].share == Fraction(50)


@pytest.mark.parametrize(
    ("snippet", "deployment", "treatment"),
    [
        ("drain_timeout: 31s\n", True, True),
        ("deployment: {phases: {canary: {user_percentage: 2}}}\n", False, True),
        (
            "upstreams: {traditional: {endpoints: ['http://127.0.0.1:9001']},"
            " dspy: {endpoints: ['http://127.0.0.1:9099']}}\n",
            True,
            False,
        ),
        (
            "upstreams: {traditional: {endpoints: ['http://127.0.0.1:9099']},"
            " dspy: {endpoints: ['http://127.0.0.1:9002']}}\n",
            True,
            True,
        ),
    ],
    ids=["neither", "deployment", "treatment", "control"],
)
def test_an_approval_is_bound_to_the_deployment_and_to_treatments_upstream(
    tmp_path: Path, snippet: str, deployment: bool, treatment: bool
) -> None:
    """And to nothing else of the file."""
    before, after = rules_of(tmp_path, "").binding, rules_of(tmp_path, snippet).binding
    assert (before.deployment == after.deployment, before.treatment == after.treatment) == (
        deployment,
        treatment,
    )


def test_the_upstream_of_a_group_is_treatments_too(tmp_path: Path) -> None:
    """A third pipeline behind a group is part of what was approved."""

    def config(port: int) -> str:
        return f"""\
upstreams:
  traditional: {{endpoints: [http://127.0.0.1:9001]}}
  dspy: {{endpoints: [http://127.0.0.1:9002]}}
  third: {{endpoints: [http://127.0.0.1:{port}]}}
routes:
  - {{name: default, control: traditional, treatment: dspy, experiment: three}}
deployment:
  experiments:
    three: {{groups: {{control: {{weight: 1}}, third: {{weight: 1, upstream: third}}}}}}
"""

    one, other = (rules_of(tmp_path, config(port)).binding for port in (9003, 9004))
    assert one.treatment != other.treatment
    assert one.deployment == other.deployment


def test_rules_survive_the_store(tmp_path: Path) -> None:
    """The history holds the rules of every reload, with each type of gate."""
    rules = rules_of(tmp_path, CANARY)
    assert from_json(Rules, to_json(rules)) == rules
