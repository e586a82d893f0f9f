"""The dashboard's paths described as OpenAPI: a part of `openapi.DOCUMENT`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.control.admin.schemas import NUMBER, TEXT, TIME, answer, array_of, object_of, parameter, problems
from gateway.control.dashboard.document import Reach

_COUNT = {"type": "integer"}
_ARM = object_of(
    requests=_COUNT,
    success_rate=NUMBER,
    error_rate=NUMBER,
    average_response_time=NUMBER,
    latency=object_of(p50=NUMBER, p90=NUMBER, p99=NUMBER),
    scores={"type": "object", "additionalProperties": NUMBER},
)
_OBJECT = {"type": "object"}
_DASHBOARD = object_of(
    at=TIME,
    version=_COUNT,
    sections=array_of({"type": "string"}),
    state=object_of(
        condition={"type": "string"}, tone={"type": "string"}, word={"type": "string"}, since=TIME
    ),
    overview=object_of(
        total_executions=_COUNT,
        dspy_executions=_COUNT,
        traditional_executions=_COUNT,
        success_rate=NUMBER,
        average_response_time=NUMBER,
    ),
    performance=object_of(
        dspy_performance=_ARM,
        traditional_performance=_ARM,
        comparison=object_of(
            performance_improvement=NUMBER,
            cost_comparison=object_of(dspy=NUMBER, traditional=NUMBER, change=NUMBER),
            quality_improvement=NUMBER,
        ),
        limits=_OBJECT,
        series=object_of(step=NUMBER, points=array_of(_OBJECT)),
        evidence=_OBJECT,
    ),
    experiments=array_of(
        object_of(
            id={"type": "string"},
            name={"type": "string"},
            status={"type": "string"},
            participants=_COUNT,
            results=_OBJECT,
            statistical_significance={"type": ["object", "null"]},
        )
    ),
    alerts=object_of(active_alerts=array_of(_OBJECT), recent_alerts=array_of(_OBJECT), alert_trends=_OBJECT),
    deployment=object_of(
        current_phase={"type": "string"},
        phase_metrics={"type": ["object", "null"]},
        rollout_percentage={"type": "number"},
        canary_health=object_of(
            status={"type": "string", "enum": ["unknown", "healthy", "degraded", "unhealthy"]}, reason=TEXT
        ),
    ),
)
_TEXT = {"type": "string"}


_REACH = parameter(
    "reach",
    "How far back courses of time go",
    {"type": "string", "enum": [reach.value for reach in Reach], "default": Reach.QUARTER.value},
)


def _read(
    summary: str,
    schema: dict[str, Any],
    content_type: str,
    *statuses: int,
    parameters: Sequence[dict[str, Any]] = (),
    public: bool = False,
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": answer("The answer", schema, content_type)} | problems(403, *statuses),
    }
    return {"get": described | ({"security": []} if public else {})}


PATHS = {
    "/": _read("The dashboard's page, without data", _TEXT, "text/html", public=True),
    "/api/v1/dashboard": _read(
        "All that the dashboard shows", _DASHBOARD, "application/json", 400, 401, parameters=[_REACH]
    ),
    "/api/v1/dashboard/panels": _read(
        "The same as the page's sections", _TEXT, "text/html", 400, 401, parameters=[_REACH]
    ),
    "/api/v1/events": _read(
        "Server-sent events without an end: hello, state whenever something happened, tick",
        _TEXT,
        "text/event-stream",
        401,
        503,
    ),
}
"""The paths, described."""
