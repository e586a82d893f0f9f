"""That something came, until somebody has seen it: waited for with patience, however often it came.

It does not hold what came.
"""

from __future__ import annotations

import asyncio
import contextlib


class News:
    """See the module. One task waits."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    def __repr__(self) -> str:
        return f"<News {'waiting' if self._came.is_set() else 'none'}>"

    def came(self) -> None:
        """Wake who waits, or who waits next."""
        self._came.set()

    async def wait(self, patience: float) -> None:
        """Return once something has come since the last call, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._came.wait()
        self._came.clear()
