"""The paths of experiments and outcomes described as OpenAPI: a part of `openapi.DOCUMENT`."""

from __future__ import annotations

from typing import Any

from gateway.control.admin.schemas import (
    NUMBER,
    TEXT,
    TIME,
    answer,
    array_of,
    get,
    object_of,
    parameter,
    problems,
    write,
)
from gateway.control.experiments.binding import Cause
from gateway.core.results.verdict import Verdict
from gateway.model.lifecycle import Status

MOST_OUTCOMES = 1000
"""Outcomes in one request."""
TEXT_LIMIT = 200
"""Characters of an outcome's id, and of every other text in it but the user's id."""
USER_LIMIT = 8_192
"""Characters of a user's id: whole tokens are ids somewhere, and who could take part can be reported of."""
MALFORMED = "malformed"
"""The code of an outcome that makes no sense by itself."""

_VERDICT = {"type": ["string", "null"], "enum": [*(verdict.value for verdict in Verdict), None]}
_STATUS = {"type": "string", "enum": [status.value for status in Status]}
_SUMMARY: dict[str, Any] = {
    "id": {"type": "string"},
    "name": {"type": "string"},
    "status": _STATUS,
    "origin": {"type": "string", "enum": ["config", "api"]},
    "routes": array_of({"type": "string"}),
    "started_at": TIME,
    "winner": TEXT,
    "participants": {"type": "integer"},
    "verdict": _VERDICT,
    "counting": {
        "type": "boolean",
        "description": "False while nothing is counted: not running, latched, or nobody is enrolled",
    },
    "explanation": {"type": "string"},
}
_GROUP = object_of(
    weight={"type": "number"},
    share={"type": "number"},
    dspy_enabled={"type": "boolean"},
    upstream=TEXT,
    configuration={"type": "object"},
    participants={"type": "integer"},
    requests={"type": "integer"},
)
_COMPARISON = object_of(
    group={"type": "string"},
    difference=NUMBER,
    lift=NUMBER,
    interval=array_of(NUMBER),
    lift_interval={"type": ["array", "null"], "items": NUMBER},
    p_value=NUMBER,
)
_METRIC = object_of(
    direction={"type": ["string", "null"], "enum": ["up", "down", None]},
    success_metric={"type": "boolean"},
    groups={"type": "object", "additionalProperties": object_of(n={"type": "integer"}, mean=NUMBER)},
    comparisons=array_of(_COMPARISON),
)
_DETAILS_KEYS: dict[str, Any] = {
    **_SUMMARY,
    "version": {"type": "integer", "description": "What If-Match takes; also the ETag"},
    "created_at": TIME,
    "concluded_at": TIME,
    "running_seconds": {"type": "number", "description": "Since the start, pauses left out"},
    "counted_seconds": {"type": "number", "description": "Those in which requests counted for it"},
    "planned_end": TIME,
    "days_to_go": NUMBER,
    "minimum_sample_size": {"type": "integer"},
    "hash": {"type": "string"},
    "seed": {"type": "string"},
    "revision": {"type": "integer"},
    "epoch": {"type": ["integer", "null"]},
    "primary": {**TEXT, "description": "The metric that decides; none before a success metric has a value"},
    "groups": {"type": "object", "additionalProperties": _GROUP},
    "metrics": {"type": "object", "additionalProperties": _METRIC},
    "sample_ratio": object_of(p_value=NUMBER, ok={"type": "boolean"}),
    "recommended": TEXT,
}
_DETAILS = object_of(**_DETAILS_KEYS)
_STEP = object_of(
    **_DETAILS_KEYS,
    acknowledged={
        "type": "boolean",
        "description": "Whether every worker serves by it already; those that do not will",
    },
    rollout_paused={
        "type": "boolean",
        "description": "Whether this paused the rollout, because control won",
    },
)
_ASSIGNMENT = object_of(
    user={"type": "string"},
    experiment={"type": "string"},
    status=_STATUS,
    assigned={"type": "boolean"},
    group=TEXT,
    arm=TEXT,
    reason=TEXT,
    at=TIME,
)
_TEXT = {"type": "string", "minLength": 1, "maxLength": TEXT_LIMIT}
_AT = "RFC 3339 with an offset, or Unix seconds"
_OUTCOME = {
    "type": "object",
    "required": ["id", "user_id", "metric", "value"],
    "properties": {
        "id": {**_TEXT, "description": "Of the sender's choice; repeats of it count once"},
        "user_id": {**_TEXT, "maxLength": USER_LIMIT},
        "metric": _TEXT,
        "value": {"type": ["number", "boolean"]},
        "experiment": {"type": ["string", "null"], "description": "None: an outcome of the rollout"},
        "route": {"type": ["string", "null"], "description": "For the rollout, where its routes differ"},
        "at": {
            "type": ["string", "number", "null"],
            "description": f"When the user was served (default: now). {_AT}",
        },
    },
    "additionalProperties": False,
}
_RECEIPT = object_of(
    accepted={"type": "integer", "description": "Counted, and on disk"},
    repeated={"type": "integer", "description": "There already by their ids: they changed nothing"},
    refused=array_of(
        object_of(
            index={"type": "integer"},
            id=TEXT,
            code={"type": "string", "enum": [MALFORMED, *(cause.value for cause in Cause)]},
            reason={"type": "string"},
        )
    ),
)
_WHO = {
    "reason": {"type": ["string", "null"], "maxLength": 1000},
    "operator": {"type": ["string", "null"], "maxLength": 1000},
    "metadata": {"type": ["object", "null"]},
}
SCHEMAS: dict[str, Any] = {
    "ConcludeOrder": {
        "type": "object",
        "required": ["winner"],
        "properties": {
            **_WHO,
            "winner": {"type": "string", "description": "The group that serves from now on"},
        },
        "additionalProperties": False,
    },
    "ExperimentDefinition": {
        "type": "object",
        "required": ["id", "groups"],
        "properties": {
            **_WHO,
            "id": {"type": "string"},
            "routes": {
                "type": ["array", "null"],
                "items": {"type": "string"},
                "minItems": 1,
                "description": "Routes whose users take part; the only one where there is one",
            },
            "name": {"type": "string"},
            "seed": {"type": "string"},
            "hash": {"type": "string", "enum": ["xxh3", "sha256"]},
            "revision": {"type": "integer", "minimum": 1},
            "groups": {"type": "object", "description": "As in the config file"},
            "success_metrics": {"type": "array", "description": "As in the config file"},
            "duration": {"type": ["string", "null"]},
            "minimum_sample_size": {"type": "integer", "minimum": 1},
        },
        "additionalProperties": False,
    },
    "Outcomes": {"type": "array", "items": _OUTCOME, "maxItems": MOST_OUTCOMES},
}
"""The schemas that the paths refer to."""


def _in_path(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
    }


_ID = _in_path("id", "The experiment's id")


def _of_one(path: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    """A path below an experiment."""
    (operation,) = path.values()
    operation["parameters"] = [_ID, *more, *operation["parameters"]]
    operation["responses"] |= problems(404)
    return path


def _created() -> dict[str, Any]:
    described = write("Make a draft", "ExperimentDefinition", _DETAILS, 409, 412, 503, conditional=True)
    responses = described["post"]["responses"]
    responses["201"] = answer("Made", object_of(**_DETAILS_KEYS, warnings=array_of({"type": "string"})))
    del responses["200"]
    return described


def _deleted() -> dict[str, Any]:
    described = write("Delete a draft", "Order", _DETAILS, 409, 412, 503, conditional=True)["post"]
    del described["requestBody"]
    text = {"type": "string", "maxLength": 1000}
    described["parameters"] += [
        parameter("reason", "Why, for the history", text),
        parameter("operator", "Who, where no tokens are configured", text),
    ]
    return {"delete": described}


def _step(summary: str, order: str) -> dict[str, Any]:
    return _of_one(write(summary, order, _STEP, 409, 412, 503, conditional=True))


PATHS: dict[str, Any] = {
    "/api/v1/experiments": get("All experiments", array_of(object_of(**_SUMMARY))) | _created(),
    "/api/v1/experiments/{id}": _of_one(get("An experiment and its results", _DETAILS)) | _of_one(_deleted()),
    "/api/v1/experiments/{id}/start": _step("Run a draft, or one that is paused", "Order"),
    "/api/v1/experiments/{id}/pause": _step("Count nothing; users stay in their groups", "Order"),
    "/api/v1/experiments/{id}/conclude": _step("End it: the winner serves who is enrolled", "ConcludeOrder"),
    "/api/v1/experiments/{id}/assignments/{user}": _of_one(
        get(
            "Which group a user is in, or was in",
            _ASSIGNMENT,
            parameter("at", f"When; none for now. {_AT}", {"type": "string"}),
        ),
        _in_path("user", "The user id"),
    ),
    "/api/v1/outcomes": write(
        "Report outcomes of users: ratings, accuracy, cost. Each is taken or refused by itself",
        "Outcomes",
        _RECEIPT,
        422,
        429,
        503,
    ),
}
"""The paths, described."""
