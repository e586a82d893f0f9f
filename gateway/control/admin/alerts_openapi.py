"""The alerts' paths described as OpenAPI: a part of `openapi.DOCUMENT`."""

from __future__ import annotations

from typing import Any

from gateway.control.admin.schemas import NUMBER, TEXT, TIME, array_of, get, object_of, parameter, write
from gateway.control.alerting.inbound import Action

STATES = ("active", "resolved", "all")
"""What `GET alerts` may be asked for."""

_SEVERITY = {"type": "string", "enum": ["critical", "high", "medium", "low"]}
_MEMBERS: dict[str, Any] = {
    "type": {"type": "string"},
    "arm": TEXT,
    "severity": _SEVERITY,
    "worst": _SEVERITY,
    "message": {"type": "string"},
    "since": TIME,
    "value": NUMBER,
    "threshold": NUMBER,
    "window": NUMBER,
    "samples": {"type": ["integer", "null"]},
}
STANDING = object_of(**_MEMBERS)
"""An alert that stands, as `status` has it."""
_ALERT = object_of(**_MEMBERS, resolved_at=TIME)
_TAKEN = object_of(
    alert={"type": "string"},
    action={"type": "string", "enum": [action.value for action in Action]},
    repeated={"type": "boolean", "description": "It was acted upon before: nothing was done"},
)
_IGNORED = object_of(
    alert={"type": "string"},
    asked={"type": "string", "description": "Its gateway_action, which is none that is known"},
    reason={"type": "string"},
)
_STEP = object_of(step={"type": "string"}, seconds={"type": "number"}, failed=TEXT)
_HOOK = object_of(
    name={"type": "string"},
    succeeded={"type": "boolean"},
    detail={"type": "string"},
    seconds={"type": "number"},
)
ROLLBACK = {
    "anyOf": [
        {"type": "null"},
        object_of(
            type={"type": "string", "enum": ["rollback", "emergency"]},
            at=TIME,
            operator={"type": "string"},
            reason={"type": "string"},
            **{"from": TEXT, "to": TEXT},
            evidence={"type": "object"},
            steps=array_of(_STEP),
            hooks=array_of(_HOOK),
            over={"type": "boolean", "description": "False while hooks or messages are under way"},
        ),
    ],
    "description": "The last rollback or emergency: steps with the seconds after which they were done",
}
"""The last rollback, as `status` has it."""
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_FOREIGN = {
    "type": "object",
    "required": ["status", "labels"],
    "properties": {
        "status": {"type": "string", "enum": ["firing", "resolved"]},
        "labels": {
            **_TEXTS,
            "description": "gateway_action: rollback or emergency asks for that, once for each firing",
        },
        "annotations": {"anyOf": [_TEXTS, {"type": "null"}]},
        "startsAt": {"type": "string"},
        "fingerprint": {"type": "string"},
    },
}
SCHEMAS = {
    "AlertmanagerPayload": {
        "type": "object",
        "required": ["alerts"],
        "properties": {"alerts": array_of(_FOREIGN)},
        "description": "Alertmanager's webhook_config, version 4; members that are not named are not read",
    }
}
"""The schemas that the paths refer to."""
PATHS = {
    "/api/v1/alerts": get(
        "The alerts that stand, gravest first",
        array_of(_ALERT),
        parameter("state", "Which alerts", {"type": "string", "enum": list(STATES), "default": STATES[0]}),
    ),
    "/api/v1/alerts/alertmanager": write(
        "What Alertmanager's webhook asks for",
        "AlertmanagerPayload",
        object_of(taken=array_of(_TAKEN), ignored=array_of(_IGNORED)),
        409,
        503,
    ),
}
"""The paths, described."""
