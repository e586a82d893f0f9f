"""The key `emergency` of the config: engages the latch once, when it is switched on.

It counts in every text that the files come to hold, also in one that is refused for something else: an
emergency does not wait until somebody has finished another edit. A release outlasts every later edit
that leaves the key as it is, and a restart of the control process. Switching the key off releases nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.control.config.loading import ConfigError, Loaded
from gateway.control.handover import KEPT_EMERGENCY, restored
from gateway.core.rollout import GATEWAY
from gateway.latch import LatchKind, LatchPage
from gateway.model.process import Keeper
from gateway.model.rollout import Emergency


class EmergencyKey:
    """Remembers what the key said last, and engages when it says more."""

    def __init__(
        self,
        in_force: Loaded,
        keeper: Keeper,
        page: LatchPage,
        engage: Callable[[Emergency], Awaitable[object]],
    ) -> None:
        """`engage` takes the event; what an earlier control process read counts as read."""
        self._keeper = keeper
        self._page = page
        self._engage = engage
        written = in_force.config.emergency
        self._on = restored(keeper, KEPT_EMERGENCY, lambda kept: kept == _ON, lambda: written)

    def __repr__(self) -> str:
        return f"<EmergencyKey on={self._on}>"

    async def heed(self, read: Loaded | ConfigError) -> None:
        """Take note of what the files hold now; engage where the key was switched on."""
        on = read.config.emergency if isinstance(read, Loaded) else read.emergency
        if on is None:
            return
        if on and not self._on and not self._stands():
            await self._engage(Emergency(operator=GATEWAY, reason=reason_of(read)))
        self._on = on
        self._keeper.keep(KEPT_EMERGENCY, _ON if on else _OFF)

    def _stands(self) -> bool:
        return self._page.engaged and self._page.kind is LatchKind.EMERGENCY


_ON, _OFF = b"on", b"off"


def reason_of(read: Loaded | ConfigError) -> str:
    """Why the latch is engaged, with what is wrong with a config that is otherwise refused."""
    if isinstance(read, Loaded):
        return "emergency: true in the config"
    first, *others = read.problems
    more = f" (and {len(others)} more)" if others else ""
    return f"emergency asked for, though the config is refused: {first}{more}"
