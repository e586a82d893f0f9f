"""How commands print durations."""

from __future__ import annotations


def span(seconds: float) -> str:
    """A span of time in its two largest units: `3 d 4 h`, `12 s`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
