"""The admin API described as OpenAPI 3.1: data, written by hand; a test compares it with the API."""

from __future__ import annotations

from typing import Any

from gateway import __version__
from gateway.control.admin import alerts_openapi, dashboard_openapi, experiments_openapi
from gateway.control.admin.schemas import (
    NUMBER,
    TEXT,
    TIME,
    answer,
    array_of,
    get,
    object_of,
    parameter,
    probe,
    write,
)

_GATE_PARAMETER = {
    "name": "gate",
    "in": "path",
    "required": True,
    "description": "The gate's id as status shows it, or its type where only one is not passed",
    "schema": {"type": "string"},
}


def _step(summary: str, order: str, *problems: int, answer: dict[str, Any] | None = None) -> dict[str, Any]:
    """A write that has the rollout take a step; it is answered with where the rollout stands then."""
    return write(summary, order, answer or _STANDING, 409, 412, 503, *problems, conditional=True)


def _word(summary: str, order: str) -> dict[str, Any]:
    """A person's word at a gate."""
    described = _step(summary, order, 404, answer=_DECIDED)
    described["post"]["parameters"].append(_GATE_PARAMETER)
    return described


_LATENCY = object_of(mean=NUMBER, p50=NUMBER, p90=NUMBER, p99=NUMBER)
_ESTIMATED = {
    **_LATENCY,
    "description": "Of all answers since the gateway began, failures too; quantiles are estimated from the "
    "buckets of /metrics. What alerts and gates go by is in `window` and `phases`",
}
_ARM = object_of(
    requests={"type": "integer"},
    failures={"type": "integer"},
    error_rate=NUMBER,
    latency=_ESTIMATED,
    time_to_first_byte=_ESTIMATED,
    inflight={"type": "integer"},
    outcomes={"type": "object", "additionalProperties": {"type": "integer"}},
)
_ARM_OF_SPAN = object_of(
    requests={"type": "integer"},
    errors={"type": "integer"},
    error_rate=NUMBER,
    mean=NUMBER,
    p50=NUMBER,
    p90=NUMBER,
    p99=NUMBER,
    first_byte=_LATENCY,
)
_ARMS_OF_SPAN = object_of(control=_ARM_OF_SPAN, treatment=_ARM_OF_SPAN)
_STAY = object_of(phase={"type": "string"}, epoch={"type": "integer"}, since=TIME, arms=_ARMS_OF_SPAN)
_WINDOW = object_of(
    since=TIME,
    seconds={"type": "number"},
    performance_degradation=NUMBER,
    arms=_ARMS_OF_SPAN,
    routes={"type": "object", "additionalProperties": _ARMS_OF_SPAN},
)
_LATCH = object_of(
    engaged={"type": "boolean"},
    number={"type": "integer"},
    kind=TEXT,
    reason=TEXT,
    operator=TEXT,
    since=TIME,
    durable={"type": "boolean"},
)
_WORKER = object_of(
    pid={"type": "integer"},
    slot={"type": "integer"},
    since=TIME,
    snapshot={"type": ["integer", "null"]},
    connections={"type": ["integer", "null"]},
    inflight={"type": ["integer", "null"]},
)
_VERDICT = {"type": "string", "enum": ["pending", "pass", "fail", "inconclusive"]}
_FINDING = object_of(
    metric={"type": "string"},
    verdict=_VERDICT,
    value=NUMBER,
    threshold={"type": "number"},
    comparison={"type": "string"},
    reason={"type": "string"},
)
_GATE = object_of(
    id={"type": "string"},
    transition={"type": "string"},
    type={"type": "string"},
    verdict=_VERDICT,
    value=NUMBER,
    threshold={"type": "number"},
    reason={"type": "string"},
    findings=array_of(_FINDING),
)
_STANDS: dict[str, Any] = {
    "version": {"type": "integer"},
    "phase": {"type": "string"},
    "phase_since": TIME,
    "mode": {"type": "string", "enum": ["running", "paused", "draining", "latched"]},
    "paused": {"type": "boolean"},
    "user_percentage": {"type": "number"},
    "ceiling": NUMBER,
}
_ACKNOWLEDGED: dict[str, Any] = {
    "latched": {"type": "boolean"},
    "acknowledged": {
        "type": "boolean",
        "description": "Whether every worker serves by it already; those that do not will",
    },
}
_STANDING = object_of(**_STANDS, **_ACKNOWLEDGED)
_FALLEN = object_of(
    **_STANDS,
    **_ACKNOWLEDGED,
    repeated={"type": "boolean", "description": "It was latched before: recorded, and no further step back"},
)
_DECIDED = object_of(
    **_STANDS,
    **_ACKNOWLEDGED,
    gate={
        "anyOf": [_GATE, {"type": "null"}],
        "description": "The gate after this word; null once it is gone",
    },
)
_STATUS = object_of(
    **_STANDS,
    next_phase=TEXT,
    next_percentage=NUMBER,
    previous_phase=TEXT,
    percentage_after_release=NUMBER,
    service_seconds={"type": "number"},
    gates=array_of(_GATE),
    running_tests=array_of({"type": "string"}),
    holds=array_of(object_of(kind={"type": "string"}, reason={"type": "string"}, since=TIME)),
    drain={"type": ["object", "null"]},
    pause={
        "anyOf": [
            object_of(operator={"type": "string"}, reason={"type": "string"}, since=TIME),
            {"type": "null"},
        ],
        "description": "Who paused the rollout and why; null while it is not paused",
    },
    treatment_absence={
        "anyOf": [
            object_of(
                seconds={"type": "number"},
                control_healthy={"type": "boolean"},
                rollback_in=NUMBER,
                obstacle=TEXT,
            ),
            {"type": "null"},
        ],
        "description": "How long treatment has been away, and in how many seconds that is a rollback, or "
        "what is in its way; null while treatment is there",
    },
    automatic_off=array_of({"type": "string"}),
    schedule=array_of(object_of(transition={"type": "string"}, gate={"type": "string"}, earliest=TIME)),
    latch=_LATCH,
    rollback=alerts_openapi.ROLLBACK,
    arms=object_of(control=_ARM, treatment=_ARM),
    window=_WINDOW,
    since_phase_start=_WINDOW,
    phases=array_of(_STAY),
    alerts=array_of(alerts_openapi.STANDING),
    workers=array_of(_WORKER),
    config=object_of(digest={"type": "string"}, loaded_at=TIME, error=TEXT, file_differs={"type": "boolean"}),
    gateway={"type": "object"},
)
_EVENT = object_of(
    at=TIME,
    type={"type": "string"},
    operator={"type": "string"},
    reason={"type": "string"},
    **{"from": TEXT, "to": TEXT},
    evidence={"type": "object"},
    digest={"type": "string"},
)
_EXPLANATION = object_of(
    user={"type": "string"},
    route=TEXT,
    phase={"type": "string"},
    arm=TEXT,
    reason=TEXT,
    group=TEXT,
    experiment=TEXT,
    enrolment={"type": ["object", "null"]},
    ranges=array_of({"type": "object"}),
    snapshot={"type": "integer"},
)
_ORDER_KEYS = {
    "reason": {"type": ["string", "null"], "maxLength": 1000},
    "operator": {
        "type": ["string", "null"],
        "maxLength": 1000,
        "description": "Where tokens are configured, the token's name stands in place of it",
    },
    "metadata": {
        "type": ["object", "null"],
        "description": "Free; kept in the history, as `metadata.NAME` where a name is taken",
    },
}
_NUMBER_KEY = {
    "type": ["integer", "null"],
    "minimum": 0,
    "description": "The engagement that is lifted, as status shows it; none for the one that holds",
}
_PERCENTAGE_KEY = {
    "type": ["number", "null"],
    "minimum": 0,
    "maximum": 100,
    "description": "The ceiling of treatment's share; none for what was rolled back from",
}


def _order(**more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": _ORDER_KEYS | more, "additionalProperties": False}


def _flag(description: str) -> dict[str, Any]:
    return {"type": ["boolean", "null"], "description": description}


_PROBLEMS = {
    400: "The request makes no sense",
    401: "A bearer token is needed",
    403: "The Host or Origin header names somebody else",
    404: "There is nothing of that name",
    408: "The body did not arrive in time",
    409: "The state does not allow it",
    412: "The state moved since it was read",
    413: "The body is too large",
    422: "Nothing of it can be taken",
    429: "Too much of it waits: send it again later",
    503: "Not possible now",
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "gateway admin API", "version": __version__},
    "security": [{"token": []}, {}],
    "paths": {
        "/livez": probe("Does the control process answer?"),
        "/healthz": probe("The same as /livez"),
        "/readyz": probe("Does the gateway serve?", 503),
        "/metrics": probe("Metrics for Prometheus"),
        "/openapi.json": get("This document", {"type": "object"}),
        "/api/v1/status": get("The gateway at a glance", _STATUS),
        "/api/v1/history": get(
            "What happened, by whom and why; newest last",
            array_of(_EVENT),
            parameter(
                "limit",
                "How many of the newest events",
                {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
            ),
        ),
        "/api/v1/explain": get(
            "Which arm serves a user, and why",
            _EXPLANATION,
            parameter("user", "The user id; empty for a request without one", {"type": "string"}),
            parameter("path", "The request's path", {"type": "string", "default": "/"}),
            parameter("method", "The request's method", {"type": "string", "default": "GET"}),
            parameter("header", "Name: value, any number of times", array_of({"type": "string"})),
        ),
        **alerts_openapi.PATHS,
        **experiments_openapi.PATHS,
        **dashboard_openapi.PATHS,
        "/api/v1/emergency": write(
            "Everything to control, now, until a release",
            "Order",
            object_of(engaged={"type": "boolean"}, number={"type": "integer"}, durable={"type": "boolean"}),
        ),
        "/api/v1/release": write(
            "Lift the latch, or move the ceiling",
            "ReleaseOrder",
            object_of(
                engaged={"type": "boolean"},
                released={"type": "boolean"},
                number={"type": "integer"},
                **_STANDS,
                **_ACKNOWLEDGED,
            ),
            409,
            412,
            503,
            conditional=True,
        ),
        "/api/v1/rollout/advance": _step("To the next phase", "AdvanceOrder"),
        "/api/v1/rollout/rollback": _step(
            "Everything to control and a step back", "RollbackOrder", answer=_FALLEN
        ),
        "/api/v1/rollout/pause": _step("No advance from now on", "Order"),
        "/api/v1/rollout/resume": _step("The pause ends", "Order"),
        "/api/v1/gates/{gate}/approve": _word("A person's word for a gate", "Order"),
        "/api/v1/gates/{gate}/reject": _word("A person's word against a gate", "Order"),
    },
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            **alerts_openapi.SCHEMAS,
            **experiments_openapi.SCHEMAS,
            "Order": _order(),
            "ReleaseOrder": _order(number=_NUMBER_KEY, percentage=_PERCENTAGE_KEY),
            "AdvanceOrder": _order(force=_flag("Skip the gates")),
            "RollbackOrder": _order(graceful=_flag("Take the share down in steps first")),
            "Problem": {
                **object_of(
                    type={"type": "string"},
                    title={"type": "string"},
                    status={"type": "integer"},
                    detail={"type": "string"},
                ),
                "description": "A refusal of the rollout's also has `code`, and `gates` as status has them",
            },
        },
        "responses": {
            str(status): answer(
                description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json"
            )
            for status, description in _PROBLEMS.items()
        },
    },
}
"""The whole description, JSON-ready."""
