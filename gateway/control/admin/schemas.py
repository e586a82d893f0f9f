"""Building blocks of the OpenAPI descriptions: answers, parameters, objects."""

from __future__ import annotations

from typing import Any

JSON = "application/json"
TIME = {"type": ["string", "null"], "format": "date-time"}
"""RFC 3339 in UTC, or nothing."""
NUMBER = {"type": ["number", "null"]}
"""A number, or nothing."""
TEXT = {"type": ["string", "null"]}
"""Text, or nothing."""


def answer(description: str, schema: dict[str, Any], content_type: str = JSON) -> dict[str, Any]:
    """An answer with a body of that schema."""
    return {"description": description, "content": {content_type: {"schema": schema}}}


def problems(*statuses: int) -> dict[str, Any]:
    """The problem documents that a path may answer with."""
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def get(summary: str, schema: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    """A path that is read."""
    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": {"200": answer("The answer", schema)} | problems(400, 401, 403),
        }
    }


def write(
    summary: str, order: str, schema: dict[str, Any], *statuses: int, conditional: bool = False
) -> dict[str, Any]:
    """A path that is written to; `order` names the schema of its body."""
    if_match = {
        "name": "If-Match",
        "in": "header",
        "description": "The state's version, as the ETag of status shows it",
        "schema": {"type": "string"},
    }
    body = {"content": {JSON: {"schema": {"$ref": f"#/components/schemas/{order}"}}}}
    return {
        "post": {
            "summary": summary,
            "parameters": [if_match] if conditional else [],
            "requestBody": body,
            "responses": {"200": answer("Done", schema)} | problems(400, 401, 403, 408, 413, *statuses),
        }
    }


def probe(summary: str, *statuses: int) -> dict[str, Any]:
    """A path that answers in plain text, and needs no token."""
    text = {"type": "string"}
    answers = {"200": answer("Yes", text, "text/plain")}
    answers |= {str(status): answer("No, and why", text, "text/plain") for status in statuses}
    return {"get": {"summary": summary, "security": [], "responses": answers | problems(403)}}


def object_of(**properties: Any) -> dict[str, Any]:
    """An object with at least these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def array_of(items: dict[str, Any]) -> dict[str, Any]:
    """An array."""
    return {"type": "array", "items": items}
