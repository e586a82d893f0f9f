"""The path for late outcomes: a list of them, each accepted or refused by itself.

An outcome that belongs nowhere, or makes no sense, is listed with its reason. The others are counted and
on disk when the answer is sent. The answer is an error only if no outcome was accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import hdrs, web

from gateway.control.admin.experiments_openapi import MALFORMED, MOST_OUTCOMES, TEXT_LIMIT, USER_LIMIT
from gateway.control.admin.problems import Problem
from gateway.control.admin.requests import read_any_json, read_instant, refuse
from gateway.control.admin.resources import API
from gateway.control.experiments.binding import Outcome
from gateway.control.experiments.outcomes import Overloaded, Receipt
from gateway.control.store.api import StoreError

LARGEST = 1e300
"""Numbers beyond this are none that a computer has."""
_RETRY_AFTER = "1"
_KEYS = ("id", "user_id", "metric", "value", "experiment", "route", "at")


class OutcomeBackend(Protocol):
    """What the path asks of the control process."""

    async def take_outcomes(self, outcomes: Sequence[Outcome]) -> Receipt:
        """Take late outcomes. Raises Overloaded and StoreError."""


class OutcomeResources:
    """The handler over one backend."""

    def __init__(self, backend: OutcomeBackend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[web.RouteDef]:
        """Every path."""
        return (web.post(f"{API}/outcomes", self.outcomes),)

    async def outcomes(self, request: web.Request) -> web.Response:
        """Take outcomes; see the module."""
        items = await read_any_json(request)
        if not isinstance(items, list):
            refuse("the body is not a JSON array of outcomes")
        if len(items) > MOST_OUTCOMES:
            detail = f"there are {len(items)} outcomes; expected at most {MOST_OUTCOMES} in a request"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        refused: dict[int, tuple[str, str]] = {}
        places, outcomes = [], []
        for index, item in enumerate(items):
            try:
                outcomes.append(_outcome(item))
                places.append(index)
            except Problem as problem:
                refused[index] = MALFORMED, problem.detail
        receipt = await self._taken(outcomes)
        for place, unbound in receipt.refused.items():
            refused[places[place]] = unbound.cause.value, unbound.reason
        return _answer(items, receipt, refused)

    async def _taken(self, outcomes: Sequence[Outcome]) -> Receipt:
        if not outcomes:
            return Receipt()
        try:
            return await self._backend.take_outcomes(outcomes)
        except Overloaded as overload:
            detail = "too many outcomes wait for the disk: none of these was taken, send them again"
            retry: Mapping[str, str] = {hdrs.RETRY_AFTER: _RETRY_AFTER}
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, retry) from overload
        except StoreError as error:
            detail = f"the outcomes could not be written ({error}): send them again, each counts once"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error


def _answer(items: Sequence[Any], receipt: Receipt, refused: Mapping[int, tuple[str, str]]) -> web.Response:
    listed = [
        {"index": index, "id": _id_of(items[index]), "code": code, "reason": reason}
        for index, (code, reason) in sorted(refused.items())
    ]
    document = {"accepted": receipt.accepted, "repeated": receipt.repeated, "refused": listed}
    if listed and len(listed) == len(items):
        detail = f"no outcome was taken: {listed[0]['reason']}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, extensions=document)
    return web.json_response(document)


def _id_of(item: Any) -> str | None:
    name = item.get("id") if isinstance(item, dict) else None
    return name[:TEXT_LIMIT] if isinstance(name, str) else None


def _outcome(item: Any) -> Outcome:
    """One outcome. Raises Problem where it makes no sense."""
    if not isinstance(item, dict):
        refuse("this is no object")
    if unknown := sorted(set(item).difference(_KEYS)):
        refuse(f"unknown key {unknown[0]!r}; expected any of {', '.join(_KEYS)}")
    return Outcome(
        _text(item, "id"),
        _text(item, "user_id", USER_LIMIT),
        _text(item, "metric"),
        _value(item),
        _text(item, "experiment") if item.get("experiment") is not None else None,
        _text(item, "route") if item.get("route") is not None else None,
        read_instant(item.get("at")),
    )


def _value(item: Mapping[str, Any]) -> float:
    value = item.get("value")
    if not isinstance(value, int | float):
        refuse("value is not a number")
    if not abs(value) < LARGEST:
        refuse(f"value is out of all bounds; expected less than {LARGEST:g} either way")
    return float(value)  # true and false are 1 and 0: a thumb up, a thumb down


def _text(item: Mapping[str, Any], key: str, limit: int = TEXT_LIMIT) -> str:
    text = item.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= limit:
        refuse(f"{key} is not text of 1 to {limit} characters")
    return text.encode(errors="replace").decode()  # JSON may smuggle in lone surrogates
