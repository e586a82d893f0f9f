"""What a person can do about what they are told: a sentence for each, and what to type.

Pure text, for somebody whom a message woke; `docs/operations.md` has the long form. It does not know
whether a thing is told, nor to whom.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.alerts import MISSING_TRAFFIC
from gateway.model.rollout import HoldKind

AFTER_FALL = "Users are on control, nothing is urgent. Once treatment is repaired: `gateway release`"
AFTER_LATCH = "Users are on control, nothing is urgent. Read why: `gateway status`. Then: `gateway release`"
AFTER_RELEASE = (
    "Treatment may have users. Watch it: `gateway status --watch`. If it harms: `gateway emergency`"
)
DURING_DRAIN = "It ends in a rollback by itself. All of it at once: `gateway emergency`"
DURING_TRIAL = "Nothing: within minutes treatment is rolled back or cleared. At once: `gateway rollback`"

_HOLDS: Mapping[HoldKind, str] = {
    HoldKind.EVIDENCE: "Nothing: it is rolled back by itself if it is bad. At once: `gateway rollback`",
    HoldKind.SAMPLE_RATIO: "Do not trust the experiment's results; find out where users get lost: "
    "`gateway experiment list`",
    HoldKind.SHARED_OUTAGE: "Repair what both arms need; a rollback does not help. It ends by itself",
    HoldKind.PENDING_ROLLBACK: "Treatment serves on until you decide: `gateway approve rollback`, "
    "or `gateway reject rollback`",
}
_DISK = "Do not restart: it holds in memory only. Repair the disk; then it is written by itself"
_TYPES: Mapping[str, str] = {
    **{kind.value: advice for kind, advice in _HOLDS.items()},
    MISSING_TRAFFIC: "Ask for a user whom treatment should serve: `gateway explain USER`. Is its id sent?",
    "latch_not_durable": _DISK,
    "state_not_durable": _DISK,
    "experiments_not_durable": _DISK,
    "config_not_in_force": "The config before it is in force, whole. What is wrong with the file: "
    "`gateway check FILE`",
    "no_worker": "Nobody is answered. The log says why workers end; meanwhile send users past the gateway",
    "control_task_failing": "Users are served, but maybe nothing is rolled back by itself: `gateway status`. "
    "Restart the gateway when it suits",
}
_ARMS: Mapping[str, str] = {
    "control": "Repair control; a rollback would send it more users",
    "treatment": "How near a rollback is, or if there was one: `gateway status`. At once: `gateway rollback`",
}


def on_hold(kind: HoldKind) -> str:
    """What to do about a hold."""
    return _HOLDS[kind]


def on_alert(name: str, arm: str) -> str:
    """What to do about an alert of this type and arm ("" for nobody's)."""
    return _TYPES.get(name) or _ARMS.get(arm, "")
