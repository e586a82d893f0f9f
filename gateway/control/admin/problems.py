"""Error answers as problem documents (RFC 9457), without internal details."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway import logs

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that cannot be granted: what is answered in place of a result."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        """`extensions` are further members of the document (RFC 9457, section 3.2)."""
        super().__init__(detail)
        self.extensions = extensions or {}
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def problem_response(problem: Problem) -> web.Response:
    """The problem as an answer."""
    document = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail,
        **problem.extensions,
    }
    return web.Response(
        status=problem.status.value,
        text=json.dumps(document) + "\n",
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


@web.middleware
async def answer_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Middleware: every fault becomes a problem document; an unforeseen one is logged, not shown."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        detail = _DETAILS.get(error.status, error.reason)
        return problem_response(Problem(HTTPStatus(error.status), detail, allow))
    except Exception:
        logs.error("admin request failed", path=request.path, trace=traceback.format_exc())
        detail = "internal error; see the gateway's log"
        return problem_response(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail))


_DETAILS = {
    404: "there is nothing at this path; see /openapi.json",
    405: "the path exists, but not for this method; see the Allow header",
    413: "the body is larger than the admin API takes",
}
