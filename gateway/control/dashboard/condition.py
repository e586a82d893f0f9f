"""The one word for the condition of the gateway, and why: read from the status, worst first.

Pure. Every condition has its own word, tone and icon, so that colour is never the only sign.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.control.dashboard.figures import duration, percentage, words


class Tone(enum.StrEnum):
    """How much a condition asks of whoever sees it."""

    GOOD = "good"
    CALM = "calm"
    """Somebody wanted it so."""
    WARNING = "warning"
    CRITICAL = "critical"


class Condition(enum.Enum):
    """What the gateway is in; the first that holds is shown."""

    EMERGENCY = "emergency"
    ROLLED_BACK = "rolled_back"
    SAFE_MODE = "safe_mode"
    """The latch is engaged because config or state could not be trusted."""
    NOT_SERVING = "not_serving"
    TREATMENT_AWAY = "treatment_away"
    DRAINING = "draining"
    TRIAL = "trial"
    HOLDING = "holding"
    FAULTY = "faulty"
    ALERTING = "alerting"
    PAUSED = "paused"
    HEALTHY = "healthy"

    @property
    def word(self) -> str:
        """The condition in a word or two, readable from across the room."""
        return self.value.replace("_", " ")

    @property
    def tone(self) -> Tone:
        """How much it asks."""
        return _TONES[self]


_TONES = {
    Condition.EMERGENCY: Tone.CRITICAL,
    Condition.ROLLED_BACK: Tone.CRITICAL,
    Condition.SAFE_MODE: Tone.CRITICAL,
    Condition.NOT_SERVING: Tone.CRITICAL,
    Condition.TREATMENT_AWAY: Tone.WARNING,
    Condition.DRAINING: Tone.WARNING,
    Condition.TRIAL: Tone.WARNING,
    Condition.HOLDING: Tone.WARNING,
    Condition.FAULTY: Tone.WARNING,
    Condition.ALERTING: Tone.WARNING,
    Condition.PAUSED: Tone.CALM,
    Condition.HEALTHY: Tone.GOOD,
}
_LATCHED = {"emergency": Condition.EMERGENCY, "rollback": Condition.ROLLED_BACK}
_OWN = frozenset(
    (
        "latch_not_durable",
        "state_not_durable",
        "experiments_not_durable",
        "config_not_in_force",
        "no_worker",
        "control_task_failing",
    )
)
"""Types of alerts that are about the gateway itself, not about its traffic."""
_LOUD = frozenset(("critical", "high"))
"""Severities of alerts that outweigh an otherwise healthy rollout."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The condition, what it means for users, and why it is so; `since` is RFC 3339 or None."""

    condition: Condition
    meaning: str
    reason: str = ""
    operator: str = ""
    since: str | None = None


def see(status: Mapping[str, Any]) -> Seen:
    """How the gateway does, by its status document."""
    latch = status["latch"]
    if latch["engaged"]:
        condition = _LATCHED.get(latch["kind"], Condition.SAFE_MODE)
        meaning = "Every user is served by control, until somebody releases the latch."
        return Seen(condition, meaning, latch["reason"] or "", latch["operator"] or "", latch["since"])
    if not status["workers"]:
        return Seen(Condition.NOT_SERVING, "No worker is running: requests are not answered.")
    return (
        _of_treatment(status)
        or _of_rollout(status)
        or _of_tasks(status)
        or _of_alerts(status)
        or _calm(status)
    )


def _of_treatment(status: Mapping[str, Any]) -> Seen | None:
    """Treatment is away: for how long, and what becomes of it."""
    away = status["treatment_absence"]
    if away is None:
        return None
    meaning = "Control answers for treatment, as far as failover allows it."
    if not away["control_healthy"]:
        meaning = "Treatment cannot be reached, and control is not healthy either."
    follows = f"not rolled back, for {away['obstacle']}"
    if away["obstacle"] is None:
        follows = f"rolled back in {duration(away['rollback_in'])} unless it comes back"
    return Seen(Condition.TREATMENT_AWAY, meaning, f"gone for {duration(away['seconds'])}; {follows}")


def _of_rollout(status: Mapping[str, Any]) -> Seen | None:
    if drain := status.get("drain"):
        meaning = f"Treatment's share is taken down: step {drain['step']} of {drain['steps']}."
        return Seen(Condition.DRAINING, meaning, drain["reason"] or "", drain["operator"] or "")
    if trial := status.get("trial"):
        meaning = f"At most {percentage(trial['cap'])} of users take part, so that control can be compared."
        return Seen(Condition.TRIAL, meaning, trial["reason"], since=trial["since"])
    if holds := status.get("holds"):
        meaning = "Nothing advances while a hold lasts; users stay where they are."
        reason = "; ".join(hold["reason"] or words(hold["kind"]) for hold in holds)
        return Seen(Condition.HOLDING, meaning, reason, since=holds[0]["since"])
    return None


def _of_tasks(status: Mapping[str, Any]) -> Seen | None:
    """Work of the control process that fails again and again: what depends on it must not look healthy."""
    failing = status["gateway"]["failing_tasks"]
    if not failing:
        return None
    restarts = status["gateway"]["task_restarts"]
    told = ", ".join(f"{words(name)} ({restarts.get(name, 0)} times)" for name in failing)
    meaning = "Requests are served, but figures, evidence and decisions may be out of date."
    return Seen(Condition.FAULTY, meaning, f"the gateway's own work fails: {told}; the log says why")


def _of_alerts(status: Mapping[str, Any]) -> Seen | None:
    loud = [alert for alert in status.get("alerts", ()) if alert.get("severity") in _LOUD]
    if not loud:
        return None
    reason = "; ".join(str(alert.get("message") or words(alert["type"])) for alert in loud)
    if any(alert["type"] not in _OWN for alert in loud):
        calm = all(alert.get("calm_since") for alert in loud)
        asked = "look at the alerts." if not calm else "it is better now, and the alerts end if it stays so."
        return Seen(Condition.ALERTING, f"Requests are served; {asked}", reason)
    return Seen(Condition.FAULTY, "Requests are served; the gateway itself needs a look.", reason)


def _calm(status: Mapping[str, Any]) -> Seen:
    share = percentage(status["user_percentage"])
    if status["paused"]:
        return Seen(Condition.PAUSED, f"{share} of users take part. Nothing advances until it is resumed.")
    return Seen(Condition.HEALTHY, f"{share} of users take part; every user stays in one arm.")
