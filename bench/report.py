"""The results as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.measures import SECTIONS, TARGETS, Measure, Section, Verdict, judge
from bench.proxies import Proxy
from bench.results import DIRECT, Results

STYLES = {Verdict.AIM: "bold green", Verdict.MUST: "green", Verdict.MISS: "bold red", Verdict.UNKNOWN: "dim"}
RATIOS = ("nginx", "envoy")
"""Peers to which CPU time is related."""
DIRECT_LABELS = {
    Section.COST: "load and upstreams alone",
    Section.LATENCY: "direct (whole latency)",
    Section.STREAMS: "direct (whole latency)",
}
"""What the measurements without a proxy mean in each section."""


def show(results: Results, proxies: Sequence[Proxy], console: Console) -> None:
    """Print every section, the targets, and the remarks."""
    shown = [proxy for proxy in proxies if proxy.name not in results.skipped]
    for section, measures in SECTIONS.items():
        console.print(section_table(section, measures, shown, results))
    console.print(target_table(results))
    for name, reason in results.skipped.items():
        console.print(f"[yellow]left out[/] {name}: {reason}", highlight=False, soft_wrap=True)
    if results.disturbances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in results.disturbances.items())
        console.print(
            f"[yellow]the machine was not quiet[/]: others had of the core of {shares}", highlight=False
        )
    for remark in results.remarks:
        console.print(f"[dim]·[/] {remark}", highlight=False, soft_wrap=True)


def section_table(
    section: Section, measures: Sequence[Measure], proxies: Sequence[Proxy], results: Results
) -> Table:
    """One row per proxy, one column per measure."""
    table = Table(title=section.value, title_justify="left", title_style="bold")
    table.add_column("proxy", no_wrap=True)
    for measure in measures:
        table.add_column(f"{measure.title}\n[dim]{measure.unit}[/]", justify="right")
    ratios = RATIOS if section is Section.COST else ()
    for peer in ratios:
        table.add_column(f"CPU, GET\n[dim]÷ {peer}[/]", justify="right")
    labels = [(proxy.name, proxy.label) for proxy in proxies]
    if section in DIRECT_LABELS:
        labels.append((DIRECT, DIRECT_LABELS[section]))
    for name, label in labels:
        cells = [cell(measure, results.median(measure, name)) for measure in measures]
        cells += [ratio(results, measures[0], name, peer) for peer in ratios]
        table.add_row(label, *cells, style="bold" if name == "gateway" else "")
    return table


def target_table(results: Results) -> Table:
    """The gateway's figures beside what they should be."""
    table = Table(title="Targets", title_justify="left", title_style="bold")
    table.add_column("figure")
    for heading in ("measured", "must", "aim"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for target in TARGETS:
        value = results.figure(target)
        verdict = judge(target, value)
        measured = "–" if value is None or math.isnan(value) else f"{value:.2f}"
        bounds = (f"≤ {target.must:g}", f"≤ {target.aim:g}")
        table.add_row(target.title, measured, *bounds, f"[{STYLES[verdict]}]{verdict.value}[/]")
    return table


def cell(measure: Measure, value: float | None) -> str:
    """Format a value, or a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{measure.decimals}f}"


def ratio(results: Results, measure: Measure, name: str, peer: str) -> str:
    """Format how a proxy's value stands to a peer's."""
    own, other = results.median(measure, name), results.median(measure, peer)
    return f"{own / other:.2f} ×" if own and other else "–"
