"""The comparison as an SVG of bars."""

from __future__ import annotations

from collections.abc import Sequence

from bench.proxies import Proxy
from bench.results import Results


def draw(results: Results, proxies: Sequence[Proxy]) -> str:
    """Draw."""
    return ""
