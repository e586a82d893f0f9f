"""Why the rollout refused a request, as problem documents: the one place that translates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

from gateway.control.admin.problems import Problem
from gateway.control.latching import ReleaseResult
from gateway.control.rollout.desk import NotReleased, Outdated, Refused
from gateway.control.rollout.views import gate
from gateway.control.store.api import NotDurableError
from gateway.model.rollout import RefusalCode


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the rollout's desk raises into a Problem.

    409 where the state does not allow it, with `code` and what every gate says; 404 for a gate that is
    not there; 412 where the state moved; 503 where the disk refuses what has to be on it.
    """
    try:
        yield
    except Refused as refused:
        raise _of_refusal(refused) from refused
    except Outdated as outdated:
        detail = f"the state moved: it is at version {outdated.version} now"
        raise Problem(HTTPStatus.PRECONDITION_FAILED, detail) from outdated
    except NotReleased as failure:
        raise _of_release(failure) from failure
    except NotDurableError as error:
        detail = f"it could not be written to the state directory, and so was not done: {error}"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error


def _of_refusal(refused: Refused) -> Problem:
    refusal = refused.refusal
    unknown = refusal.code is RefusalCode.UNKNOWN_GATE
    extensions = {"code": refusal.code.value, "gates": [gate(result) for result in refusal.gates]}
    status = HTTPStatus.NOT_FOUND if unknown else HTTPStatus.CONFLICT
    return Problem(status, refusal.reason, extensions=extensions)


def _of_release(failure: NotReleased) -> Problem:
    if failure.result is ReleaseResult.OVERTAKEN:
        detail = "another engagement came meanwhile and holds the latch; it is engaged still"
        return Problem(HTTPStatus.CONFLICT, detail)
    detail = "the release could not be written to the state directory; the latch is engaged still"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
