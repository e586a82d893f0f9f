"""The comparison as an SVG: a panel of bars per figure, drawn by hand for a README.

Every panel is of the kind "shorter is better" and starts at zero. The picture has its own light
ground, so that it reads on a dark page too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench import measures
from bench.measures import Measure
from bench.proxies import GATEWAY, Proxy
from bench.results import Results

PANELS = (
    (measures.CPU_GET, "CPU per request", "small GET, 32 connections"),
    (measures.CPU_DOWNLOAD, "CPU per MB", "1 MB answers"),
    (measures.P99_1000, "Added latency, p99", "1,000 requests/s, open loop"),
    (measures.EVENT_P99, "Added latency per event, p99", "50 streams × 20/s"),
    (measures.STREAM_MEMORY, "Memory per idle stream", "SSE streams held open"),
    (measures.RESIDENT, "Memory at start", "resident, all processes"),
)
COLUMNS = 2
WIDTH, MARGIN, GAP = 960, 40, 40
HEADER, FOOTER = 96, 46
PANEL_WIDTH = (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) / COLUMNS
PANEL_HEAD, PANEL_FOOT, ROW, BAR = 50, 20, 25, 15
LABEL_WIDTH, VALUE_WIDTH = 102, 78
GROUND, PANEL_GROUND, INK, FAINT, TRACK = "#fbfaf7", "#ffffff", "#1f2430", "#757b8a", "#f0eee8"
OWN, PEER = "#e4572e", "#9fb0c7"
STYLE = f"""
  text {{ font-family: -apple-system, "Segoe UI", Inter, Roboto, Helvetica, Arial, sans-serif; fill: {INK} }}
  .title {{ font-size: 23px; font-weight: 650 }}
  .note {{ font-size: 13px; fill: {FAINT} }}
  .panel {{ font-size: 15px; font-weight: 600 }}
  .label {{ font-size: 13px }}
  .value {{ font-size: 13px; font-variant-numeric: tabular-nums; fill: {FAINT} }}
  .own {{ font-weight: 650; fill: {INK} }}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One proxy's value in a panel."""

    label: str
    value: float
    own: bool


def draw(results: Results, proxies: Sequence[Proxy]) -> str:
    """Draw the panels for which there are values."""
    panels = [(panel, bars) for panel in PANELS if (bars := bars_of(results, panel[0], proxies))]
    rows = math.ceil(len(panels) / COLUMNS)
    most = max((len(bars) for _, bars in panels), default=0)
    panel_height = PANEL_HEAD + most * ROW + PANEL_FOOT - (ROW - BAR)
    height = HEADER + rows * panel_height + max(rows - 1, 0) * (GAP / 2) + FOOTER
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        'aria-label="The gateway compared with other proxies: shorter bars are better">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="14" fill="{GROUND}"/>',
        f'<text class="title" x="{MARGIN}" y="48">What the gateway costs beside other proxies</text>',
        f'<text class="note" x="{MARGIN}" y="72">shorter is better · one worker each, alone on one core · '
        "gateway with identity, experiment, metrics and health checks on</text>",
    ]
    for number, ((measure, title, note), bars) in enumerate(panels):
        x = MARGIN + (number % COLUMNS) * (PANEL_WIDTH + GAP)
        y = HEADER + (number // COLUMNS) * (panel_height + GAP / 2)
        parts.append(draw_panel(measure, title, note, bars, x, y, panel_height))
    parts.append(
        f'<text class="note" x="{MARGIN}" y="{height - 18:.0f}">medians of interleaved rounds in one run of '
        "make bench, over loopback</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def bars_of(results: Results, measure: Measure, proxies: Sequence[Proxy]) -> list[Bar]:
    """Give the proxies that have a value, the best first."""
    values = [(proxy, results.median(measure, proxy.name)) for proxy in proxies]
    bars = [
        Bar(proxy.label, value, proxy.name == GATEWAY.name)
        for proxy, value in values
        if value is not None and not math.isnan(value)
    ]
    return sorted(bars, key=lambda bar: bar.value)


def draw_panel(
    measure: Measure, title: str, note: str, bars: Sequence[Bar], x: float, y: float, height: float
) -> str:
    """Draw one panel at a place."""
    inset = 18
    room = PANEL_WIDTH - 2 * inset - LABEL_WIDTH - VALUE_WIDTH
    longest = max(*(bar.value for bar in bars), 1e-9)
    parts = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{PANEL_WIDTH:.1f}" height="{height:.1f}" rx="10" '
        f'fill="{PANEL_GROUND}" stroke="{TRACK}"/>',
        f'<text class="panel" x="{x + inset:.1f}" y="{y + 28:.1f}">{escape(title)}'
        f'<tspan class="note" dx="8" font-weight="400">{escape(note)}</tspan></text>',
    ]
    for row, bar in enumerate(bars):
        top = y + PANEL_HEAD + row * ROW
        base = top + BAR - 3
        start = x + inset + LABEL_WIDTH
        length = max(room * max(bar.value, 0.0) / longest, 2.0)
        own = " own" if bar.own else ""
        parts += [
            f'<text class="label{own}" x="{x + inset:.1f}" y="{base:.1f}">{escape(bar.label)}</text>',
            f'<rect x="{start:.1f}" y="{top:.1f}" width="{room:.1f}" height="{BAR}" rx="3" fill="{TRACK}"/>',
            f'<rect x="{start:.1f}" y="{top:.1f}" width="{length:.1f}" height="{BAR}" rx="3" '
            f'fill="{OWN if bar.own else PEER}"/>',
            f'<text class="value{own}" x="{start + room + 8:.1f}" y="{base:.1f}">'
            f"{escape(value_text(measure, bar.value))}</text>",
        ]
    return "\n".join(parts)


def value_text(measure: Measure, value: float) -> str:
    """Write a value with its unit; what is within the noise of zero is called so."""
    if value <= 0:
        return f"≈ 0 {measure.unit}"
    return f"{value:,.{measure.decimals}f} {measure.unit}"
