"""How `status` shows automatic rollback: how near it is, by which limits, how soon it would come.

Built from the status document, for a tired reader. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from gateway.commands.spans import span

_STYLES = {"quiet": "green", "hold": "yellow", "trial": "bold yellow", "shared_outage": "bold red"}


def absence(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    """That treatment is away, and what becomes of it; nothing under the latch, where nobody misses it."""
    away = document["treatment_absence"]
    if away is None or document["latch"]["engaged"]:
        return
    who = "control answers" if away["control_healthy"] else "control is not healthy either"
    if away["obstacle"] is None:
        what = f"rolled back in {span(away['rollback_in'])} unless it comes back"
    else:
        what = f"not rolled back, for {away['obstacle']}"
    yield Text(f"{_missing(document['upstreams'])}: {who}; {what}", style="bold red")


def _missing(upstreams: Mapping[str, Any]) -> str:
    """What treatment lacks, by the worst of the upstreams that serve it."""
    serving = [upstream for upstream in upstreams.values() if "treatment" in upstream["arms"]]
    if any(not any(endpoint["usable"] for endpoint in upstream["endpoints"]) for upstream in serving):
        return "Treatment has no usable endpoint"
    if not all(upstream["available"] for upstream in serving):
        return "Treatment is behind an open circuit breaker"
    return "Treatment gives no sign of life"


def lines(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The evidence, the limits that it is gathered by, and how long a broken treatment would last."""
    evidence = document["evidence"]
    yield Text("Rollback", style="bold")
    if evidence["decision"] == "threshold":
        yield Text("  by a plain threshold on the last minutes; the evidence is for your information")
    if document["latch"]["engaged"]:
        yield Text("  nothing is judged while everything goes to control", style="dim")
        return
    style = _STYLES.get(evidence["verdict"] or "", "")
    yield Text.assemble("  evidence  ", (evidence["reason"], style))
    for metric, limit in document["limits"].items():
        yield Text.assemble("  limit     ", f"{metric} {limit['value']:g}", (f"  ({limit['source']})", "dim"))
    for line in evidence["detection_in_words"]:
        yield Text(f"  found     {line}", style="dim")
