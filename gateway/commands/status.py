"""`gateway status`: the running gateway at a glance, for a tired person.

First what holds, then both arms side by side, then the machinery, then what to type next. The
document comes from the admin API; nothing is judged here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.commands import client, options
from gateway.exits import Exit

WATCH_INTERVAL = 1.0
"""Seconds between two looks of `--watch`."""
_DIGEST_SHOWN = 12
_INDENT = (0, 2)

Document = Mapping[str, Any]


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "status",
        help="phase, latch, arms side by side, workers",
        description="The running gateway at a glance. Exits with 1 where no worker runs.",
        parents=[options.client_options()],
    )
    parser.add_argument("--watch", action="store_true", help="look again every second, until Ctrl-C")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the status once, or for ever."""
    return client.run(args, lambda gateway: (_watch if args.watch else _once)(gateway, args.output))


def _once(gateway: client.AdminClient, output: str) -> int:
    document = gateway.get("status")
    if output == "json":
        print(json.dumps(document))
    else:
        console = Console(highlight=False)
        console.print(render(document, time.time()), soft_wrap=not console.is_terminal)
    return Exit.DONE if document["workers"] else Exit.FAILED


def _watch(gateway: client.AdminClient, output: str) -> int:
    """Show the status again and again: in place on a terminal, one after the other elsewhere."""
    console = Console(highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        if output == "json":
            _repeat(lambda: print(json.dumps(gateway.get("status")), flush=True))
        elif console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                _repeat(lambda: live.update(_look(gateway), refresh=True))
        else:
            _repeat(lambda: console.print(_look(gateway), "", soft_wrap=True))
    return Exit.DONE


def _repeat(show: Callable[[], None]) -> NoReturn:
    while True:
        show()
        time.sleep(WATCH_INTERVAL)


def _look(gateway: client.AdminClient) -> RenderableType:
    """The status now; a gateway that is away for a moment does not end the watch."""
    try:
        return render(gateway.get("status"), time.time())
    except client.Unreachable as error:
        return Text(str(error), style="bold red")


def render(document: Document, now: float) -> RenderableType:
    """The status for people; `now` is Unix time in seconds."""
    return Group(
        *_headline(document, now), Text(), _arms(document["arms"]), Text(), *_machinery(document, now)
    )


def _headline(document: Document, now: float) -> Iterator[RenderableType]:
    share = document["user_percentage"]
    since = _ago(document["phase_since"], now)
    latch = document["latch"]
    yield Text.assemble(
        ("Phase ", "dim"), (document["phase"], "bold"), f", {share:g} % of users enrolled, for {since}"
    )
    if latch["engaged"]:
        reason = f": {latch['reason']}" if latch["reason"] else ""
        yield Text(f"LATCHED ({latch['kind']}). Everything goes to control.", style="bold white on red")
        yield Text(f"  for {_ago(latch['since'], now)}, by {latch['operator']}{reason}")
        yield Text.assemble("  When treatment may have traffic again: ", ("gateway release", "bold"))
    for alert in document["alerts"]:
        yield Text(f"{alert['severity'].upper()} {alert['type']}: {alert['message']}", style="red")


def _arms(arms: Document) -> Table:
    table = Table(box=None, pad_edge=False, padding=_INDENT, header_style="bold")
    table.add_column("")
    for name in arms:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[Document], str]] = {
        "requests": lambda arm: f"{arm['requests']:,}",
        "errors": lambda arm: _percent(arm["error_rate"]),
        "in flight": lambda arm: f"{arm['inflight']:,}",
        "latency, mean": lambda arm: _seconds(arm["latency"]["mean"]),
        "p50": lambda arm: _seconds(arm["latency"]["p50"]),
        "p90": lambda arm: _seconds(arm["latency"]["p90"]),
        "p99": lambda arm: _seconds(arm["latency"]["p99"]),
        "first byte, p50": lambda arm: _seconds(arm["time_to_first_byte"]["p50"]),
    }
    for label, show in rows.items():
        table.add_row(Text(label, style="dim"), *(show(arm) for arm in arms.values()))
    return table


def _machinery(document: Document, now: float) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False, padding=_INDENT, show_header=False)
    newest = document["gateway"]["snapshot"]
    for worker in document["workers"]:
        behind = "" if worker["snapshot"] == newest else f", still on snapshot {worker['snapshot']}"
        requests = "not heard of yet" if worker["inflight"] is None else f"{worker['inflight']} in flight"
        up = f"up {_ago(worker['since'], now)}"
        table.add_row(Text("worker", style="dim"), f"{worker['pid']}", f"{up}, {requests}{behind}")
    config = document["config"]
    loaded = f"in force for {_ago(config['loaded_at'], now)}"
    table.add_row(Text("config", style="dim"), config["digest"][:_DIGEST_SHOWN], loaded)
    restarts = document["gateway"]["worker_restarts"]
    if restarts:
        table.add_row(Text("restarts", style="dim"), str(restarts), "workers ended unplanned")
    yield table
    if not document["latch"]["engaged"]:
        yield Text()
        yield Text.assemble("If treatment harms: ", ("gateway emergency", "bold"))


def _ago(timestamp: str | None, now: float) -> str:
    """How long ago, in the two largest units."""
    if timestamp is None:
        return "?"
    left = max(0, int(now - datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.2f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
