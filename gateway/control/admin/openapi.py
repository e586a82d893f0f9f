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
_STATUS = _object(
    version={"type": "integer"},
    phase={"type": "string"},
    phase_since=_TIME,
    user_percentage={"type": "number"},
    latch=_LATCH,
    gates=_list({"type": "object"}),
    arms=_object(control=_ARM, treatment=_ARM),
    ceiling=_NUMBER,
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
    "number": {
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "For release: the engagement that is lifted, as status shows it",
    },
}
_PROBLEMS = {
    400: "The request makes no sense",
    401: "A bearer token is needed",
    403: "The Host or Origin header names somebody else",
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
            "Lift the latch",
            "Order",
            _object(engaged={"type": "boolean"}, released={"type": "boolean"}, number={"type": "integer"}),
            409,
            412,
            503,
            conditional=True,
        ),
    },
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        "schemas": {
            "Order": {"type": "object", "properties": _ORDER_KEYS, "additionalProperties": False},
            "Problem": _object(
                type={"type": "string"},
                title={"type": "string"},
                status={"type": "integer"},
                detail={"type": "string"},
            ),
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
