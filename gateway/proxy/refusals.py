"""Every reason for which an exchange answers with an error of the gateway's own.

Each says what the client is told, what counts against the assigned group, and whether the endpoint is to
blame. The exchange decides which one applies.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.observation import Outcome
from gateway.proxy.sockets import is_shortage
from gateway.wire.faults import Fault, WireError


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason. `blames_endpoint`: passive ejection and the breaker hear of it."""

    fault: Fault
    detail: str
    outcome: Outcome
    blames_endpoint: bool = False


OVERLOADED = Refusal(Fault.UNAVAILABLE, "too many requests wait for this upstream", Outcome.REJECTED)
QUEUED_TOO_LONG = Refusal(
    Fault.UNAVAILABLE, "no connection to the upstream became free in time", Outcome.TIMEOUT
)
BODY_STALLED = Refusal(Fault.REQUEST_TIMEOUT, "the request's body stalled", Outcome.REJECTED)
NO_ANSWER = Refusal(
    Fault.GATEWAY_TIMEOUT, "the upstream did not answer in time", Outcome.TIMEOUT, blames_endpoint=True
)
CLOSED_UNANSWERED = Refusal(
    Fault.BAD_GATEWAY,
    "the upstream closed the connection without an answer",
    Outcome.RESET,
    blames_endpoint=True,
)
ROLLED_BACK = Refusal(Fault.UNAVAILABLE, "the treatment was rolled back", Outcome.REJECTED)
"""It says nothing about an arm: treatment might have answered."""

_NO_SOCKET = Refusal(Fault.UNAVAILABLE, "no socket is left for a connection", Outcome.REJECTED)
_UNREACHABLE = Refusal(Fault.BAD_GATEWAY, "the upstream cannot be reached", Outcome.CONNECT_ERROR)
_UNREACHABLE_IN_TIME = Refusal(Fault.GATEWAY_TIMEOUT, "the upstream cannot be reached", Outcome.CONNECT_ERROR)


def unreachable(error: Exception) -> Refusal:
    """A dial failed; a shortage of our own is no fault of the upstream's. The pool has blamed already."""
    if is_shortage(error):
        return _NO_SOCKET
    return _UNREACHABLE_IN_TIME if isinstance(error, TimeoutError) else _UNREACHABLE


def bad_request(error: WireError) -> Refusal:
    """The rest of the request is not what its head promised."""
    return Refusal(error.fault, error.detail, Outcome.REJECTED)


def bad_answer(detail: str) -> Refusal:
    """The upstream's bytes are no HTTP."""
    return Refusal(Fault.BAD_GATEWAY, detail, Outcome.RESET, blames_endpoint=True)
