"""What every child process sets up in the same way: signals, log, event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import traceback
from collections.abc import Callable, Coroutine, Mapping
from types import FrameType
from typing import Any

import uvloop

from gateway import logs
from gateway.exits import Exit
from gateway.latch import LatchKind, LatchPage
from gateway.processes.signals import HELD_BACK


def handle_emergency(page: LatchPage, receiver: str, persist: Callable[[], None]) -> None:
    """SIGUSR1 engages, in the handler itself: a busy loop would delay it by seconds.

    From here on the signals that were held back since the start are let through; the rest of them
    is the supervisor's business.
    """

    def engage(_: int, __: FrameType | None) -> None:
        news = not page.engaged
        number = page.engage(LatchKind.EMERGENCY, f"SIGUSR1 to {receiver}", "signal")
        persist()
        if news:
            logs.audit("latch engaged", kind=LatchKind.EMERGENCY.value, number=number, operator="signal")

    signal.signal(signal.SIGUSR1, engage)
    for number in HELD_BACK - {signal.SIGUSR1}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def run(main: Coroutine[Any, Any, None]) -> int:
    """Run a process's main coroutine to its end on uvloop; whatever it raises is logged."""
    logging.basicConfig(handlers=[_ToOurLog()], level=logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(_log_loop_error)
            runner.run(main)
    except Exception as error:
        logs.error("failed", error=repr(error), traceback=_traceback(error))
        return Exit.FAILED
    finally:
        logs.flush()
    return Exit.DONE


class _ToOurLog(logging.Handler):
    """Libraries that use `logging` must not block on a full pipe either."""

    def emit(self, record: logging.LogRecord) -> None:
        say = logs.error if record.levelno >= logging.ERROR else logs.warn
        fields = (
            {"traceback": _traceback(record.exc_info[1])} if record.exc_info and record.exc_info[1] else {}
        )
        say(record.getMessage(), logger=record.name, **fields)


def _log_loop_error(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    error = context.get("exception")
    fields = {"traceback": _traceback(error)} if isinstance(error, BaseException) else {}
    logs.error(str(context.get("message", "unhandled error in the loop")), **fields)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
