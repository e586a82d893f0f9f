"""The demo's live screen: a picture drawn with rich, for any terminal from 80 by 24 upwards.

`Screen` is a renderable that asks the console for its size when it is drawn. It knows only pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.box import HEAVY, SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from gateway.demo.picture import Event, Picture, active_faults, clock, latency, short
from gateway.demo.readings import Severity
from gateway.demo.tally import ArmFigures, Ending, Sample
from gateway.demo.traffic import USER_COUNT
from gateway.model.snapshot import Arm

MAX_WIDTH = 150
_WIDE = 104
_TALL = 30
_COLOURS = {Arm.CONTROL: "cyan", Arm.TREATMENT: "magenta"}
_LATCHED = "bold white on red"
_FAILING = 0.02
"""Share of an arm's answers that failed lately, above which the screen says so."""
_SEVERITY_STYLES = {
    Severity.INFO: "",
    Severity.GOOD: "green",
    Severity.BAD: "bold red",
    Severity.TOLD: "bold yellow",
}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_LABEL_WIDTH = 11
_RATE_WIDTH = 9
_ANSWER_WIDTH = 37
_KEYS = (("e", "emergency"), ("r", "release"), ("f", "next fault"), ("h", "heal"), ("q", "quit"))


class Screen:
    """A whole screen of the demo."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, MAX_WIDTH)
        height = options.height or console.size.height
        picture = self._picture
        curve_rows = 2 if height >= _TALL else 1
        upper: list[RenderableType] = [
            _title(picture, width),
            *([Text(f" {picture.told}", "bold yellow")] if picture.told else []),
            Padding(_guide(picture, width), (int(height >= _TALL), 1, 0, 1)),
            _state(picture, width),
            Text(),
            _arms(picture, width),
            Text(),
            _curves(picture, width, curve_rows),
        ]
        narrowed = options.update(width=width, height=None)
        lines = console.render_lines(Group(*upper), narrowed, pad=False)
        left = max(0, height - len(lines) - 3)
        lower = Group(Text(), _happenings(picture, width, left), _footer(picture))
        for line in [*lines, *console.render_lines(lower, narrowed, pad=False)][:height]:
            yield from line
            yield Segment.line()


def _title(picture: Picture, width: int) -> RenderableType:
    grid = _row(width)
    left = Text.assemble(
        (" gateway demo ", "bold black on cyan"), f"  {picture.rate:g} requests/s, {USER_COUNT} users"
    )
    if faults := active_faults(picture.behaviours):
        playing = ", ".join(map(str, faults))
        left.append(f"  playing: {playing}", "bold yellow")
    time = clock(picture.elapsed)
    if picture.duration is not None:
        time += f" / {clock(picture.duration)}"
    left.no_wrap, left.overflow = True, "ellipsis"
    grid.add_row(left, Text(f"{time} ", "bold"))
    return grid


def _guide(picture: Picture, width: int) -> RenderableType:
    guide = picture.guide
    room = width - 8
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=room)
    grid.add_row("send", Text(guide.request, "bold"))
    grid.add_row(
        "look", Text.assemble((f"{guide.admin}/", "bold underline"), ("  the dashboard, in a browser", "dim"))
    )
    grid.add_row("edit", Text.assemble((guide.config, "bold"), ("  reloads when saved", "dim")))
    if picture.is_latched:
        grid.add_row("undo", Text(guide.line("release"), "bold green"))
    else:
        grid.add_row("stop", Text(guide.line("emergency"), "bold red"))
    return grid


def _state(picture: Picture, width: int) -> RenderableType:
    style, headline, detail = _headline(picture)
    top = _row(width - 4)
    top.add_row(headline, detail)
    shares = {arm: picture.figures[arm].share for arm in Arm}
    return Panel(Group(top, _share_bar(shares, width - 4)), box=HEAVY, style=style, width=width)


def _headline(picture: Picture) -> tuple[str, Text, Text]:
    """The panel's style, what is to be seen from afar, and what goes beside it."""
    status = picture.reading.status
    if status is None:
        silent = Text("● CONTROL PROCESS SILENT", "bold yellow")
        return "yellow", silent, Text("traffic goes on, decisions wait")
    if status.latch.engaged:
        who = f" by {status.latch.operator}" if status.latch.operator else ""
        engaged = Text("■ LATCH ENGAGED  everything goes to control", _LATCHED)
        return _LATCHED, engaged, Text(f"{status.latch.kind}{who}")
    phase = Text.assemble((status.phase, "bold"), f"  {status.user_percentage:g} % of users enrolled")
    failing = [arm for arm in Arm if picture.figures[arm].error_rate > _FAILING]
    if failing:
        arm = failing[-1]
        text = f"● {arm.label.upper()} FAILS {picture.figures[arm].error_rate:.0%}  "
        return "yellow", Text(text, "bold yellow") + phase, Text()
    return "green", Text("● HEALTHY  ", "bold green") + phase, Text(" · ".join(_costs(picture)), "dim")


def _costs(picture: Picture) -> Iterator[str]:
    overhead = picture.reading.metrics.overhead_p50
    if not math.isnan(overhead):
        yield f"adds {short(overhead)}"
    if picture.memory:
        yield f"{picture.memory / 1e6:.0f} MB"


def _share_bar(shares: dict[Arm, float], width: int) -> Text:
    if not any(shares.values()):
        return Text("waiting for answers", "dim")
    bar = Text(no_wrap=True)
    treatment_cells = round(shares[Arm.TREATMENT] * width)
    for arm, cells in ((Arm.CONTROL, width - treatment_cells), (Arm.TREATMENT, treatment_cells)):
        labels = (f" {arm.label} {shares[arm]:.1%} ", f" {shares[arm]:.0%} ", "")
        label = next(label for label in labels if len(label) <= cells)
        bar.append(label.ljust(cells), Style.parse(f"bold black on {_COLOURS[arm]}"))
    return bar


def _arms(picture: Picture, width: int) -> RenderableType:
    columns = [column for column in _COLUMNS if width >= _WIDE or not column.only_wide]
    table = Table(box=SIMPLE_HEAD, width=width, padding=(0, 1, 0, 0), header_style="dim")
    table.show_edge = table.pad_edge = False
    table.add_column(" arm", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for arm in Arm:
        name = Text(f" {arm.label}", f"bold {_COLOURS[arm]}")
        table.add_row(name, *(column.cell(picture.figures[arm]) for column in columns))
    return table


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cell: Callable[[ArmFigures], Text]
    only_wide: bool = False


def _failed(figures: ArmFigures) -> Text:
    return Text(f"{figures.errors:,}", "red" if figures.errors else "")


def _failing_now(figures: ArmFigures) -> Text:
    return Text(f"{figures.error_rate:.1%}", "bold red" if figures.error_rate > _FAILING else "green")


_COLUMNS = (
    _Column("users", lambda figures: Text(f"{figures.users}"), only_wide=True),
    _Column("requests", lambda figures: Text(f"{figures.requests:,}")),
    _Column("share", lambda figures: Text(f"{figures.share:.1%}")),
    _Column("req/s", lambda figures: Text(f"{figures.rate:.1f}")),
    _Column("failed", _failed),
    _Column("now", _failing_now),
    _Column("p50", lambda figures: Text(latency(figures.completion.p50))),
    _Column("p90", lambda figures: Text(latency(figures.completion.p90))),
    _Column("p99", lambda figures: Text(latency(figures.completion.p99))),
    _Column("token", lambda figures: Text(latency(figures.first_token.p50))),
    _Column("token p99", lambda figures: Text(latency(figures.first_token.p99)), only_wide=True),
)
"""What the table shows of an arm. p50 to p99 are of whole completions, `token` is a stream's first."""


def _curves(picture: Picture, width: int, rows: int) -> RenderableType:
    points = width - _LABEL_WIDTH - _RATE_WIDTH - 1
    shown = {arm: picture.curves[arm][-points:] for arm in Arm}
    peak = max((value for values in shown.values() for value in values), default=0)
    grid = Table.grid()
    grid.add_column(width=_LABEL_WIDTH)
    grid.add_column(width=points)
    grid.add_column(width=_RATE_WIDTH, justify="right")
    for arm in Arm:
        bars = Text("\n".join(curve(shown[arm], peak, rows)), _COLOURS[arm], no_wrap=True)
        label = Text("\n" * (rows - 1) + f" {arm.label}", _COLOURS[arm])
        rate = Text("\n" * (rows - 1) + f"{picture.figures[arm].rate:.0f}/s", "dim")
        grid.add_row(label, bars, rate)
    return grid


def curve(values: Sequence[float], peak: float, rows: int) -> list[str]:
    """A column of blocks per value, `rows` lines high, `peak` being full height; top line first."""
    heights = [round(value / max(peak, 1) * rows * 8) for value in values]
    return [
        "".join(
            _BLOCKS[min(8, max(int(value > 0 and row == 0), height - row * 8, 0))] for value, height in pairs
        )
        for row in reversed(range(rows))
        for pairs in [list(zip(values, heights, strict=True))]
    ]


def _happenings(picture: Picture, width: int, rows: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=width - _ANSWER_WIDTH - 1, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=_ANSWER_WIDTH, no_wrap=True, overflow="ellipsis")
    grid.add_row(Text(" what happened", "dim"), Text("last answers", "dim"))
    events = [_event_line(event) for event in reversed(picture.events)]
    answers = [_answer_line(sample) for sample in reversed(picture.recent)]
    for event, answer in zip(_filled(events, rows), _filled(answers, rows), strict=True):
        grid.add_row(event, answer)
    return grid


def _filled(texts: list[Text], rows: int) -> list[Text]:
    return (texts + [Text()] * rows)[:rows]


def _event_line(event: Event) -> Text:
    change = event.change
    return Text.assemble((f" {clock(event.at)} ", "dim"), (change.text, _SEVERITY_STYLES[change.severity]))


def _answer_line(sample: Sample) -> Text:
    arm = "nobody" if sample.arm is None else sample.arm.label
    colour = "yellow" if sample.arm is None else _COLOURS[sample.arm]
    if sample.ending is Ending.OK:
        how, style = ("stream" if sample.streamed else "json"), "dim"
    else:
        how, style = (str(sample.status) if sample.ending is Ending.FAILED else sample.ending), "bold red"
    return Text.assemble(
        f"{sample.user:<12}",
        (f"{arm:<10}", colour),
        (f"{how:<8}", style),
        (f"{latency(sample.duration):>6}", "dim"),
    )


def _footer(picture: Picture) -> RenderableType:
    if not picture.keys:
        return Text(" Ctrl-C ends the demo", "dim")
    parts: list[tuple[str, str]] = []
    for key, meaning in _KEYS:
        parts += [(f" {key} ", "bold reverse"), (f" {meaning}   ", "")]
    return Text.assemble(" ", *parts, no_wrap=True)


def _row(width: int) -> Table:
    grid = Table.grid(expand=False)
    grid.width = width
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    return grid
