"""The garbage collector while a process loads its modules: switched off.

How a process uses its memory later is its own business.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Load modules without the collector: it would look at a hundred thousand objects again and again.

    None of them is garbage. They are left out of its later rounds too (`gc.freeze`).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
