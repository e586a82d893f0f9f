"""The paths of experiments: their results, and what operators do to them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import hdrs, web

from gateway.control.admin.problems import Problem
from gateway.control.admin.refusals import translated
from gateway.control.admin.requests import (
    read_instant,
    read_precondition,
    read_query_operator,
    read_text,
    read_write,
    refuse,
)
from gateway.control.admin.resources import API, OPERATOR
from gateway.control.experiments.definitions import KEYS, DefinitionError, read_definition
from gateway.control.latching import Operator
from gateway.control.store.api import StoreError
from gateway.core.experiments import ExperimentRefused, Fault
from gateway.model.lifecycle import Action, Definition

_NOT_FOUND = frozenset((Fault.UNKNOWN,))
_MALFORMED = frozenset((Fault.UNKNOWN_NAME,))


class ExperimentBackend(Protocol):
    """What the experiments' paths ask of the control process. Documents are JSON-ready.

    Writes raise ExperimentRefused, Outdated and StoreError; `expected` are the versions of the
    experiments' state that a write may meet, None for any.
    """

    @property
    def version(self) -> int:
        """The version of the experiments' state."""

    async def ready(self) -> None:
        """Wait until the participants that were there before a restart are there again."""

    def experiments(self) -> list[dict[str, Any]]:
        """All experiments in short."""

    def details(self, name: str) -> dict[str, Any]:
        """One experiment with its results. Raises ExperimentRefused."""

    def assignment(self, name: str, user: str, at: float | None) -> dict[str, Any]:
        """Which group a user is in, or was in at a Unix time. Raises ExperimentRefused."""

    async def step(
        self,
        name: str,
        action: Action,
        by: Operator,
        expected: Collection[int] | None,
        winner: str | None = None,
    ) -> dict[str, Any]:
        """Start, pause or conclude an experiment; how it stands then."""

    async def create(
        self, definition: Definition, by: Operator, expected: Collection[int] | None
    ) -> dict[str, Any]:
        """Make a draft."""

    async def delete(self, name: str, by: Operator, expected: Collection[int] | None) -> dict[str, Any]:
        """Delete a draft; what it was."""

    def routes_for(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The routes that a definition without any means: the only one there is, else none."""


class ExperimentResources:
    """The handlers over one backend."""

    def __init__(self, backend: ExperimentBackend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[web.RouteDef]:
        """Every path."""
        path = f"{API}/experiments/{{id}}"
        return (
            web.get(f"{API}/experiments", self.experiments),
            web.post(f"{API}/experiments", self.create),
            web.get(path, self.details),
            web.delete(path, self.delete),
            web.post(f"{path}/start", self.start),
            web.post(f"{path}/pause", self.pause),
            web.post(f"{path}/conclude", self.conclude),
            web.get(f"{path}/assignments/{{user:.+}}", self.assignment),
        )

    async def experiments(self, _: web.Request) -> web.Response:
        """All experiments, a summary each."""
        await self._backend.ready()
        return self._answer(self._backend.experiments())

    async def details(self, request: web.Request) -> web.Response:
        """One experiment with its results; the ETag is what If-Match takes."""
        await self._backend.ready()
        with _refusals():
            return self._answer(self._backend.details(request.match_info["id"]))

    async def assignment(self, request: web.Request) -> web.Response:
        """Which group a user is in; with `at`, was in then."""
        at = read_instant(request.query.get("at"))
        with _refusals():
            found = self._backend.assignment(request.match_info["id"], request.match_info["user"], at)
        return self._answer(found)

    async def create(self, request: web.Request) -> web.Response:
        """Make a draft of what the body defines."""
        by, body = await read_write(request, OPERATOR.get(), "id", "routes", *KEYS)
        name, routes = read_text(body, "id"), _names(body, "routes")
        values = {key: body[key] for key in KEYS if key in body}
        try:
            definition, warnings = read_definition(name, self._backend.routes_for(routes), values)
        except DefinitionError as error:
            detail = f"the definition makes no sense: {error}"
            raise Problem(
                HTTPStatus.BAD_REQUEST, detail, extensions={"problems": list(error.problems)}
            ) from error
        with _refusals():
            made = await self._backend.create(definition, by, read_precondition(request))
        document = made | {"warnings": list(warnings)}
        return self._answer(document, HTTPStatus.CREATED, f"{API}/experiments/{name}")

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a draft. Who and why stand in the query: a DELETE has no body (RFC 9110, section 9.3.5)."""
        by = read_query_operator(request, OPERATOR.get())
        with _refusals():
            deleted = await self._backend.delete(request.match_info["id"], by, read_precondition(request))
        return self._answer(deleted)

    async def start(self, request: web.Request) -> web.Response:
        """Run a draft, or one that is paused."""
        by, _ = await read_write(request, OPERATOR.get())
        return await self._step(request, Action.START, by)

    async def pause(self, request: web.Request) -> web.Response:
        """Count nothing from now on; users stay in their groups."""
        by, _ = await read_write(request, OPERATOR.get())
        return await self._step(request, Action.PAUSE, by)

    async def conclude(self, request: web.Request) -> web.Response:
        """End it: the winner serves everybody who is enrolled."""
        by, body = await read_write(request, OPERATOR.get(), "winner")
        return await self._step(request, Action.CONCLUDE, by, read_text(body, "winner") or None)

    async def _step(
        self, request: web.Request, action: Action, by: Operator, winner: str | None = None
    ) -> web.Response:
        expected = read_precondition(request)
        with _refusals():
            done = await self._backend.step(request.match_info["id"], action, by, expected, winner)
        return self._answer(done)

    def _answer(
        self, document: Any, status: HTTPStatus = HTTPStatus.OK, location: str | None = None
    ) -> web.Response:
        headers: dict[str, str] = {hdrs.ETAG: f'"{self._backend.version}"'}
        if location is not None:
            headers[hdrs.LOCATION] = location
        return web.json_response(document, status=status, headers=headers)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn what an experiment's desk raises into a Problem."""
    try:
        with translated():
            yield
    except ExperimentRefused as refused:
        status = HTTPStatus.CONFLICT
        if refused.fault in _NOT_FOUND:
            status = HTTPStatus.NOT_FOUND
        elif refused.fault in _MALFORMED:
            status = HTTPStatus.BAD_REQUEST
        raise Problem(status, refused.reason, extensions={"code": refused.fault.value}) from refused
    except StoreError as error:
        detail = f"it could not be written to the state directory, and so was not done: {error}"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error


def _names(body: Mapping[str, Any], key: str) -> list[str] | None:
    names = body.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        refuse(f"{key} is not a list of names")
    return names
