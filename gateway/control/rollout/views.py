"""The rollout as the admin API shows it, built from values: no I/O, no clock.

Times are RFC 3339 in UTC, percentages numbers from 0 to 100; None means "nothing to say".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, TypeAlias

from gateway.control.stays import PhaseMetrics
from gateway.control.traffic import ArmMetrics, View
from gateway.core.gates import asked, schedule
from gateway.core.percentage import effective_percentage, percentage_after_release
from gateway.model.gates import Finding, GateResult
from gateway.model.rollout import Rollout, Rules

Document: TypeAlias = dict[str, Any]


def timestamp(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: Fraction) -> float | int:
    """An exact number as JSON has it."""
    return int(value) if value.denominator == 1 else float(value)


def standing(state: Rollout, rules: Rules) -> Document:
    """Where the rollout stands: what every write answers with, and a part of the status."""
    return {
        "version": state.version,
        "phase": state.phase,
        "phase_since": timestamp(state.since),
        "mode": state.mode.value,
        "paused": state.paused,
        "user_percentage": number(effective_percentage(state, rules)),
        "ceiling": None if state.ceiling is None else number(state.ceiling),
    }


def rollout(state: Rollout, rules: Rules, at: float, running_tests: Collection[str]) -> Document:
    """The rollout's part of the status; `running_tests` are the ids of gates whose tests run now."""
    ahead, behind = rules.neighbour(state.phase, 1), rules.neighbour(state.phase, -1)
    return standing(state, rules) | {
        "next_phase": None if ahead is None else ahead.name,
        "next_percentage": None if ahead is None else number(ahead.share),
        "previous_phase": None if behind is None else behind.name,
        "percentage_after_release": (
            None if state.latch is None else number(percentage_after_release(state, rules))
        ),
        "service_seconds": round(state.clocks.service, 3),
        "gates": gates(state, rules, at),
        "running_tests": sorted(running_tests),
        "holds": [
            {"kind": hold.kind.value, "reason": hold.reason, "since": timestamp(hold.since)}
            for hold in state.holds
        ],
        "drain": _drain(state),
        "trial": _trial(state),
        "automatic_off": list(state.automatic_off),
        "schedule": [
            {
                "transition": str(entry.transition),
                "gate": entry.gate,
                "earliest": None if entry.at is None else timestamp(entry.at),
            }
            for entry in schedule(state, rules, at)
        ],
    }


def _drain(state: Rollout) -> Document | None:
    drain = state.drain
    if drain is None:
        return None
    return {"step": drain.step, "steps": drain.steps, "operator": drain.operator, "reason": drain.reason}


def _trial(state: Rollout) -> Document | None:
    trial = state.trial
    if trial is None:
        return None
    return {"cap": number(trial.cap), "reason": trial.reason, "since": timestamp(trial.since)}


def gates(state: Rollout, rules: Rules, at: float) -> list[Document]:
    """What every gate ahead says, and the one before a rollback that waits for a person."""
    return [gate(result) for result in asked(state, rules, at)]


def gate(result: GateResult) -> Document:
    """A gate: its worst finding in front, every finding behind."""
    worst = result.worst
    return {
        "id": result.id,
        "transition": str(result.transition),
        "type": result.type.value,
        "verdict": result.verdict.label,
        "value": worst.value,
        "threshold": worst.threshold.value,
        "reason": worst.reason,
        "findings": [_finding(finding) for finding in result.findings],
    }


def phases(stays: Iterable[PhaseMetrics]) -> list[Document]:
    """Both arms over every stay in a phase, oldest first; latencies in seconds."""
    return [
        {
            "phase": stay.phase,
            "epoch": stay.epoch,
            "since": timestamp(stay.since),
            "arms": _arms(stay.arms),
        }
        for stay in stays
    ]


def window(view: View) -> Document:
    """Both arms over some time, `seconds` long, as `phases` has them: over all routes, and on each.

    `performance_degradation` is a share: 0.15 where treatment is 15 % slower than control beside it.
    """
    return {
        "since": timestamp(view.since),
        "seconds": round(view.until - view.since, 3),
        "performance_degradation": view.degradation,
        "arms": _arms(view.arms),
        "routes": {route: _arms(arms) for route, arms in view.routes.items()},
    }


def _arms(arms: Mapping[str, ArmMetrics]) -> Document:
    return {arm: asdict(metrics) for arm, metrics in arms.items()}


def _finding(finding: Finding) -> Document:
    return {
        "metric": str(finding.metric),
        "verdict": finding.verdict.label,
        "value": finding.value,
        "threshold": finding.threshold.value,
        "comparison": str(finding.threshold),
        "reason": finding.reason,
    }
