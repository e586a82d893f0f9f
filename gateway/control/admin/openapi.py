"""The admin API described as OpenAPI 3.1: data, written by hand and held true by a test."""

from __future__ import annotations

from typing import Any

from gateway import __version__

_JSON = "application/json"
_TIME = {"type": ["string", "null"], "format": "date-time"}
_NUMBER = {"type": ["number", "null"]}
_TEXT = {"type": ["string", "null"]}


def _answer(description: str, schema: dict[str, Any], content_type: str = _JSON) -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _get(summary: str, schema: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": {"200": _answer("The answer", schema)} | _problems(400, 401, 403),
        }
    }


_GATE_PARAMETER = {
    "name": "gate",
    "in": "path",
    "required": True,
    "description": "The gate's id as status shows it, or its type where only one is not passed",
    "schema": {"type": "string"},
}


def _step(summary: str, order: str, *problems: int, gate: bool = False) -> dict[str, Any]:
    """A write that has the rollout take a step."""
    described = _write(summary, order, _STANDING, 409, 412, 503, *problems, conditional=True)
    if gate:
        described["post"]["parameters"].append(_GATE_PARAMETER)
    return described


def _write(
    summary: str, order: str, answer: dict[str, Any], *problems: int, conditional: bool = False
) -> dict[str, Any]:
    if_match = {
        "name": "If-Match",
        "in": "header",
        "description": "The state's version, as the ETag of status shows it",
        "schema": {"type": "string"},
    }
    body = {"content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{order}"}}}}
    return {
        "post": {
            "summary": summary,
            "parameters": [if_match] if conditional else [],
            "requestBody": body,
            "responses": {"200": _answer("Done", answer)} | _problems(400, 401, 403, 408, 413, *problems),
        }
    }


def _probe(summary: str, *problems: int) -> dict[str, Any]:
    text = {"type": "string"}
    answers = {"200": _answer("Yes", text, "text/plain")}
    answers |= {str(status): _answer("No, and why", text, "text/plain") for status in problems}
    return {"get": {"summary": summary, "security": [], "responses": answers | _problems(403)}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_LATENCY = _object(mean=_NUMBER, p50=_NUMBER, p90=_NUMBER, p99=_NUMBER)
_ARM = _object(
    requests={"type": "integer"},
    failures={"type": "integer"},
    error_rate=_NUMBER,
    latency=_LATENCY,
    time_to_first_byte=_LATENCY,
    inflight={"type": "integer"},
    outcomes={"type": "object", "additionalProperties": {"type": "integer"}},
)
_LATCH = _object(
    engaged={"type": "boolean"},
    number={"type": "integer"},
    kind=_TEXT,
    reason=_TEXT,
    operator=_TEXT,
    since=_TIME,
    durable={"type": "boolean"},
)
_WORKER = _object(
    pid={"type": "integer"},
    slot={"type": "integer"},
    since=_TIME,
    snapshot={"type": ["integer", "null"]},
    connections={"type": ["integer", "null"]},
    inflight={"type": ["integer", "null"]},
)
_VERDICT = {"type": "string", "enum": ["pending", "pass", "fail", "inconclusive"]}
_FINDING = _object(
    metric={"type": "string"},
    verdict=_VERDICT,
    value=_NUMBER,
    threshold={"type": "number"},
    comparison={"type": "string"},
    reason={"type": "string"},
)
_GATE = _object(
    id={"type": "string"},
    transition={"type": "string"},
    type={"type": "string"},
    verdict=_VERDICT,
    value=_NUMBER,
    threshold={"type": "number"},
    reason={"type": "string"},
    findings=_list(_FINDING),
)
_STANDS: dict[str, Any] = {
    "version": {"type": "integer"},
    "phase": {"type": "string"},
    "phase_since": _TIME,
    "mode": {"type": "string", "enum": ["running", "paused", "draining", "latched"]},
    "paused": {"type": "boolean"},
    "user_percentage": {"type": "number"},
    "ceiling": _NUMBER,
}
_ACKNOWLEDGED: dict[str, Any] = {
    "latched": {"type": "boolean"},
    "acknowledged": {
        "type": "boolean",
        "description": "Whether every worker serves by it already; those that do not will",
    },
}
_STANDING = _object(**_STANDS, **_ACKNOWLEDGED)
_STATUS = _object(
    **_STANDS,
    next_phase=_TEXT,
    previous_phase=_TEXT,
    percentage_after_release=_NUMBER,
    service_seconds={"type": "number"},
    gates=_list(_GATE),
    running_tests=_list({"type": "string"}),
    holds=_list(_object(kind={"type": "string"}, reason={"type": "string"}, since=_TIME)),
    drain={"type": ["object", "null"]},
    automatic_off=_list({"type": "string"}),
    schedule=_list(_object(transition={"type": "string"}, gate={"type": "string"}, earliest=_TIME)),
    latch=_LATCH,
    arms=_object(control=_ARM, treatment=_ARM),
    alerts=_list(_object(type={"type": "string"}, severity={"type": "string"}, message={"type": "string"})),
    workers=_list(_WORKER),
    config=_object(digest={"type": "string"}, loaded_at=_TIME, error=_TEXT, file_differs={"type": "boolean"}),
    gateway={"type": "object"},
)
_EVENT = _object(
    at=_TIME,
    type={"type": "string"},
    operator={"type": "string"},
    reason={"type": "string"},
    **{"from": _TEXT, "to": _TEXT},
    evidence={"type": "object"},
    digest={"type": "string"},
)
_EXPLANATION = _object(
    user={"type": "string"},
    route=_TEXT,
    phase={"type": "string"},
    arm=_TEXT,
    reason=_TEXT,
    group=_TEXT,
    experiment=_TEXT,
    enrolment={"type": ["object", "null"]},
    ranges=_list({"type": "object"}),
    snapshot={"type": "integer"},
)
_ORDER_KEYS = {
    "reason": {"type": ["string", "null"], "maxLength": 1000},
    "operator": {
        "type": ["string", "null"],
        "maxLength": 1000,
        "description": "Where tokens are configured, the token's name stands in place of it",
    },
    "metadata": {"type": ["object", "null"], "description": "Free; kept in the history"},
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
    404: "There is no such gate",
    408: "The body did not arrive in time",
    409: "The state does not allow it",
    412: "The state moved since it was read",
    413: "The body is too large",
    503: "Not possible now",
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "gateway admin API", "version": __version__},
    "security": [{"token": []}, {}],
    "paths": {
        "/livez": _probe("Does the control process answer?"),
        "/healthz": _probe("The same as /livez"),
        "/readyz": _probe("Does the gateway serve?", 503),
        "/metrics": _probe("Metrics for Prometheus"),
        "/openapi.json": _get("This document", {"type": "object"}),
        "/api/v1/status": _get("The gateway at a glance", _STATUS),
        "/api/v1/history": _get(
            "What happened, by whom and why; newest last",
            _list(_EVENT),
            _parameter(
                "limit",
                "How many of the newest events",
                {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
            ),
        ),
        "/api/v1/explain": _get(
            "Which arm serves a user, and why",
            _EXPLANATION,
            _parameter("user", "The user id; empty for a request without one", {"type": "string"}),
            _parameter("path", "The request's path", {"type": "string", "default": "/"}),
            _parameter("method", "The request's method", {"type": "string", "default": "GET"}),
            _parameter("header", "Name: value, any number of times", _list({"type": "string"})),
        ),
        "/api/v1/emergency": _write(
            "Everything to control, now, until a release",
            "Order",
            _object(engaged={"type": "boolean"}, number={"type": "integer"}, durable={"type": "boolean"}),
        ),
        "/api/v1/release": _write(
            "Lift the latch, or move the ceiling",
            "ReleaseOrder",
            _object(
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
        "/api/v1/rollout/rollback": _step("Everything to control and a step back", "RollbackOrder"),
        "/api/v1/rollout/pause": _step("No advance from now on", "Order"),
        "/api/v1/rollout/resume": _step("The pause ends", "Order"),
        "/api/v1/gates/{gate}/approve": _step("A person's word for a gate", "Order", 404, gate=True),
        "/api/v1/gates/{gate}/reject": _step("A person's word against a gate", "Order", 404, gate=True),
    },
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "Order": _order(),
            "ReleaseOrder": _order(number=_NUMBER_KEY, percentage=_PERCENTAGE_KEY),
            "AdvanceOrder": _order(force=_flag("Skip the gates")),
            "RollbackOrder": _order(graceful=_flag("Take the share down in steps first")),
            "Problem": {
                **_object(
                    type={"type": "string"},
                    title={"type": "string"},
                    status={"type": "integer"},
                    detail={"type": "string"},
                ),
                "description": "A refusal of the rollout's also has `code`, and `gates` as status has them",
            },
        },
        "responses": {
            str(status): _answer(
                description, {"$ref": "#/components/schemas/Problem"}, "application/problem+json"
            )
            for status, description in _PROBLEMS.items()
        },
    },
}
"""The whole description, JSON-ready."""
