"""What an experiment found: figures, each with the limit that it has to keep where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

WIDTH = 46
"""Of a figure's name, in characters."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure. `limit` is what was promised of it, in words; empty where it is only told."""

    name: str
    value: float | str
    limit: str = ""
    holds: bool = True

    def __str__(self) -> str:
        value = f"{self.value:,.4g}" if isinstance(self.value, float) else str(self.value)
        verdict = "" if not self.limit else f"{self.limit:<14} {'holds' if self.holds else 'MISSED'}"
        return f"  {self.name:<{WIDTH}} {value:>12}   {verdict}".rstrip()


@dataclass(slots=True)
class Findings:
    """The figures of one experiment, in the order in which they were found."""

    found: list[Finding] = field(default_factory=list)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    @property
    def missed(self) -> bool:
        """True if a figure does not keep its limit."""
        return not all(finding.holds for finding in self.found)

    def tell(self, name: str, value: float | str) -> None:
        """A figure that nothing was promised of."""
        self.found.append(Finding(name, value))

    def at_most(self, name: str, value: float, limit: float) -> None:
        """A figure that must not be above its limit."""
        self.found.append(Finding(name, value, f"<= {limit:g}", value <= limit))

    def at_least(self, name: str, value: float, limit: float) -> None:
        """A figure that must not be below its limit."""
        self.found.append(Finding(name, value, f">= {limit:g}", value >= limit))

    def exactly(self, name: str, value: float | str, wanted: float | str) -> None:
        """A figure that must be this one."""
        self.found.append(Finding(name, value, f"= {wanted}", value == wanted))
