"""How a terminal shows figures: times ago, shares, latencies. Short, and "-" for none."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.commands.spans import span


def ago(timestamp: str | None, now: float) -> str:
    """How long an RFC 3339 time is past at Unix second `now`, in the two largest units."""
    if timestamp is None:
        return "?"
    return span(now - datetime.fromisoformat(timestamp).astimezone(UTC).timestamp())


def percent(share: float | None) -> str:
    """A share of 1 in percent."""
    return "-" if share is None else f"{share * 100:.2f} %"


def latency(seconds: float | None) -> str:
    """Milliseconds below a second, seconds from there on."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
