"""What `status` says of the evidence: how near a rollback is, by which limits, how soon it would come.

For a tired person, built from the status document; nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

_STYLES = {"quiet": "green", "hold": "yellow", "trial": "bold yellow", "shared_outage": "bold red"}


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
