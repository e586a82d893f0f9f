"""What an admin request says: its body, its preconditions, its query. Every mistake is a Problem 400."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from http import HTTPStatus
from typing import Any, NoReturn

from aiohttp import hdrs, web

from gateway.control.admin.problems import Problem
from gateway.control.latching import Operator
from gateway.core.explain import Question

BODY_LIMIT = 256 * 1024
"""Bytes of a request's body: a thousand outcomes with ids as long as they usually are."""
BODY_PATIENCE = 10.0
"""Seconds until a body must have arrived."""
TEXT_LIMIT = 1000
"""Characters of a reason or an operator's name."""
ANONYMOUS = "anonymous"
"""The operator of a write that names none, where no tokens are configured."""
HISTORY_LIMIT = 500
LAST_SECOND = 1e11
"""Unix time beyond which a number is no time but a slip, such as milliseconds."""


@dataclass(frozen=True, slots=True)
class Order:
    """The body of a write: who wants it and why, and what the write itself takes."""

    by: Operator
    number: int | None = None
    """The engagement that a release lifts; None for the one that holds."""
    percentage: Fraction | None = None
    """The share that a release comes back with at most, in percent; None for what the rollout says."""
    force: bool = False
    """True where an advance skips the gates."""
    graceful: bool = False
    """True where a rollback drains first."""


async def read_order(request: web.Request, operator: str | None, *keys: str) -> Order:
    """The body as an order; `keys` are those that this write takes beside who and why.

    `operator` is whose token it was; it outranks the body's own claim.
    """
    by, body = await read_write(request, operator, *keys)
    return Order(
        by, _number(body), _percentage(body), force=_flag(body, "force"), graceful=_flag(body, "graceful")
    )


async def read_write(
    request: web.Request, operator: str | None, *keys: str
) -> tuple[Operator, Mapping[str, Any]]:
    """Who wants a write and why, and the whole body; see `read_order`."""
    body = await read_json(request)
    known = {"operator", "reason", "metadata", *keys}
    if unknown := sorted(set(body) - known):
        refuse(f"unknown key {unknown[0]!r}; expected any of {', '.join(sorted(known))}")
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        refuse("metadata is not an object")
    name, reason = operator or read_text(body, "operator") or ANONYMOUS, read_text(body, "reason")
    return Operator(name, reason, metadata or {}, operator is not None), body


def read_query_operator(request: web.Request, operator: str | None) -> Operator:
    """Who wants a write that has no body, and why; see `read_order`."""
    name = operator or read_text(request.query, "operator") or ANONYMOUS
    return Operator(name, read_text(request.query, "reason"), {}, operator is not None)


def _number(body: Mapping[str, Any]) -> int | None:
    number = body.get("number")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
        refuse("number is not a whole number from 0 on")
    return number


def _percentage(body: Mapping[str, Any]) -> Fraction | None:
    percentage = body.get("percentage")
    if percentage is None:
        return None
    if isinstance(percentage, bool) or not isinstance(percentage, int | float) or not 0 <= percentage <= 100:
        refuse("percentage is not a number from 0 to 100")
    return Fraction(str(percentage))  # what was written, not the binary number beside it


def _flag(body: Mapping[str, Any], key: str) -> bool:
    flag = body.get(key)
    if flag is not None and not isinstance(flag, bool):
        refuse(f"{key} is neither true nor false")
    return flag or False


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty one."""
    body = await read_any_json(request)
    if not isinstance(body, dict):
        refuse("the body is not a JSON object")
    return body


async def read_any_json(request: web.Request) -> Any:
    """What the body says in JSON; an empty body is an empty object."""
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            raw = await request.read()
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
    if not raw.strip():
        return {}
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        refuse("the body is not JSON")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_text(body: Mapping[str, Any], key: str) -> str:
    """The text under a key; "" where there is none."""
    text = body.get(key)
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > TEXT_LIMIT:
        refuse(f"{key} is not text of at most {TEXT_LIMIT} characters")
    return text.encode(errors="replace").decode()  # JSON may smuggle in lone surrogates


def read_precondition(request: web.Request) -> frozenset[int] | None:
    """The versions of the state that the request may meet; None where it depends on nothing.

    If-Match holds the `version` that `status` showed, as an entity tag or bare (RFC 9110, section
    13.1.1). A tag that is no version matches none.
    """
    wanted = request.headers.get(hdrs.IF_MATCH)
    if wanted is None or wanted.strip() == "*":
        return None
    tags = (tag.strip().strip('"') for tag in wanted.split(","))
    return frozenset(int(tag) for tag in tags if tag.isascii() and tag.isdigit() and len(tag) < 20)


def read_instant(at: Any) -> float | None:
    """A time as Unix seconds, given as a number of them or in RFC 3339; None where there is none."""
    if at is None:
        return None
    found = math.nan
    if isinstance(at, str):
        with contextlib.suppress(ValueError, OverflowError):
            found = float(at)
        with contextlib.suppress(ValueError, OverflowError):
            parsed = datetime.fromisoformat(at)
            found = parsed.timestamp() if parsed.tzinfo is not None else math.nan
    elif isinstance(at, int | float) and not isinstance(at, bool):
        found = at
    if not -LAST_SECOND < found < LAST_SECOND:
        refuse("at is neither a time as in 2026-01-31T12:00:00Z nor a number of Unix seconds")
    return float(found)


def read_limit(request: web.Request) -> int:
    """How many events `history` is asked for."""
    text = request.query.get("limit", "100")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= HISTORY_LIMIT):
        refuse(f"limit is not a whole number from 1 to {HISTORY_LIMIT}")
    return int(text)


def read_question(request: web.Request) -> Question:
    """The request that `explain` is asked about; each `header` is `Name: value`."""
    headers = {}
    for line in request.query.getall("header", []):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            refuse("header is not written as 'Name: value'")
        headers[name.strip().lower()] = value.strip()
    return Question(
        user=request.query.get("user", ""),
        path=request.query.get("path", "/"),
        method=request.query.get("method", "GET"),
        headers=headers,
    )


def refuse(detail: str) -> NoReturn:
    """The request makes no sense, for this reason: a Problem 400."""
    raise Problem(HTTPStatus.BAD_REQUEST, detail)
