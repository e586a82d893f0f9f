"""The hooks of a rollback, such as clearing a cache, run one after the other.

If a hook fails, that is recorded and the next one runs. It does not know what was rolled back, nor when.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway import logs
from gateway.control.actions import Action, Ran, carry_out
from gateway.model.safety import Hook

Runner = Callable[[Action, Path], Awaitable[Ran]]


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a hook went: `name` is what was run, `seconds` how long it took."""

    name: str
    succeeded: bool
    detail: str
    output: str
    seconds: float


async def run_hooks(
    hooks: Sequence[Hook], folder: Path, run: Runner = carry_out
) -> AsyncIterator[HookResult]:
    """Run the hooks in their order, commands in `folder`; each one's result as it ends."""
    for hook in hooks:
        name = name_of(hook)
        logs.info("hook begins", hook=name)
        began = time.monotonic()
        ran = await _ran(Action(hook.command or (), hook.http, hook.timeout), folder, run)
        result = HookResult(name, ran.succeeded, ran.detail, ran.output, round(time.monotonic() - began, 3))
        logs.audit("hook ended", hook=name, success=ran.succeeded, detail=ran.detail, seconds=result.seconds)
        yield result


async def _ran(action: Action, folder: Path, run: Runner) -> Ran:
    try:
        return await run(action, folder)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # the hooks behind it run all the same
        return Ran(False, f"failed: {type(error).__name__}", "")


def name_of(hook: Hook) -> str:
    """What a hook runs, without what may be a secret: arguments, user information, query."""
    if hook.http is not None:
        return hook.http.public
    return (hook.command or ("",))[0]
