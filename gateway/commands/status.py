"""`gateway status`: the running gateway at a glance, for a tired reader.

First the current state, then both arms side by side, then the processes, then what to type next. The
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

from gateway.commands import arms, client, judging, options
from gateway.commands.figures import ago
from gateway.commands.spans import span
from gateway.exits import Exit
from gateway.model.alerts import Severity
from gateway.model.rollout import ROLLBACK_GATE

WATCH_INTERVAL = 1.0
"""Seconds between two looks of `--watch`."""
_DIGEST_SHOWN = 12
_PAGED = (Severity.CRITICAL.value, Severity.HIGH.value)
_INDENT = (0, 2)

_VERDICT_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}

Document = Mapping[str, Any]


class _Console(Console):
    """A console whose reader may leave: `status --watch | head` ends as any command does."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "status",
        help="phase, latch, arms side by side, workers",
        description="The running gateway at a glance. Exits with 1 if no worker runs.",
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
        console = _Console(highlight=False)
        console.print(render(document, time.time()), soft_wrap=not console.is_terminal)
    return Exit.DONE if document["workers"] else Exit.FAILED


def _watch(gateway: client.AdminClient, output: str) -> int:
    """Show the status again and again: in place on a terminal, one after the other elsewhere."""
    console = _Console(highlight=False)
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
    document = _printable(document)
    return Group(
        *_headline(document, now),
        *_gates(document, now),
        Text(),
        *arms.lines(document, now),
        Text(),
        *judging.lines(document),
        Text(),
        *_machinery(document, now),
        Text(),
        *_advice(document),
    )


def _printable(value: Any) -> Any:
    """The document with nothing in it that a terminal obeys; what has many lines stays indented."""
    match value:
        case str():
            return "\n    ".join(client.printable(line) for line in value.split("\n"))
        case dict():
            return {name: _printable(each) for name, each in value.items()}
        case list():
            return [_printable(each) for each in value]
        case _:
            return value


def _headline(document: Document, now: float) -> Iterator[RenderableType]:
    share = document["user_percentage"]
    since = ago(document["phase_since"], now)
    latch = document["latch"]
    yield Text.assemble(
        ("Phase ", "dim"), (document["phase"], "bold"), f", {share:g} % of users enrolled, for {since}"
    )
    if latch["engaged"]:
        reason = f": {latch['reason']}" if latch["reason"] else ""
        yield Text(f"LATCHED ({latch['kind']}). Everything goes to control.", style="bold white on red")
        yield Text(f"  for {ago(latch['since'], now)}, by {latch['operator']}{reason}")
    yield from judging.absence(document)
    if document["ceiling"] is not None:
        yield Text(f"Under a ceiling of {document['ceiling']:g} % until the next advance", style="yellow")
    if document["paused"]:
        yield Text("PAUSED. No advance, and time gates stand still.", style="bold yellow")
        if (pause := document["pause"]) is not None:
            reason = f": {pause['reason']}" if pause["reason"] else ""
            yield Text(f"  for {ago(pause['since'], now)}, by {pause['operator']}{reason}")
    if (drain := document["drain"]) is not None:
        yield Text(
            f"DRAINING, step {drain['step']} of {drain['steps']}, by {drain['operator']}", style="bold"
        )
    if (trial := document["trial"]) is not None:
        since = ago(trial["since"], now)
        yield Text(
            f"TRIAL. At most {trial['cap']:g} % of users, for {since}: {trial['reason']}", style="bold yellow"
        )
    for hold in document["holds"]:
        yield Text(f"HELD by {hold['kind']} for {ago(hold['since'], now)}: {hold['reason']}", style="yellow")
    for alert in document["alerts"]:
        whose = f" of {alert['arm']}" if alert.get("arm") else ""
        yield Text(f"{alert['severity'].upper()} {alert['type']}{whose}: {alert['message']}", style="red")
    if (rollback := document["rollback"]) is not None:
        yield from _rollback(rollback, now)


def _rollback(rollback: Document, now: float) -> Iterator[RenderableType]:
    """The last rollback or emergency, and what of it failed."""
    places = "" if rollback["from"] == rollback["to"] else f", {rollback['from']} to {rollback['to']}"
    why = f": {rollback['reason']}" if rollback["reason"] else ""
    past = ago(rollback["at"], now)
    yield Text(f"Last {rollback['type']} {past} ago{places}, by {rollback['operator']}{why}", style="dim")
    for step in rollback["steps"]:
        if step["failed"]:
            yield Text(f"  failed: {step['step']}: {step['failed']}", style="red")
    if not rollback["over"]:
        yield Text("  hooks and messages are under way", style="dim")


def _gates(document: Document, now: float) -> Iterator[RenderableType]:
    """The gates ahead: what each says, and when it could pass at the earliest."""
    if not document["gates"]:
        return
    earliest = {entry["gate"]: entry["earliest"] for entry in document["schedule"]}
    before = None
    for gate in document["gates"]:
        heading = "Rollback" if gate["id"] == ROLLBACK_GATE else f"Gates of {gate['transition']}"
        if heading != before:
            yield Text()
            yield Text(heading, style="bold")
        before = heading
        # The id stands whole on a line of its own: it is what a person types.
        style = _VERDICT_STYLES.get(gate["verdict"], "")
        yield Text.assemble((f"{gate['verdict']:<13}", style), gate["id"])
        when = "" if gate["verdict"] == "pass" else _ahead(earliest.get(gate["id"]), now)
        running = "runs now" if gate["id"] in document["running_tests"] else ""
        yield Text(" " * 13 + ", ".join(filter(None, (gate["reason"], running, when))), style="dim")


def _advice(document: Document) -> Iterator[RenderableType]:
    """What to type next."""
    for why, command in advice(document):
        yield Text.assemble(f"{why}: ", (command, "bold"))


def advice(document: Document) -> Iterator[tuple[str, str]]:
    """What a person can do now: why, and what to type."""
    if document["latch"]["engaged"]:
        share = document["percentage_after_release"]
        with_share = "" if share is None else f" (with {share:g} % in {document['phase']})"
        yield f"When treatment may have traffic again{with_share}", "gateway release"
        return
    open_gates = [gate for gate in document["gates"] if gate["verdict"] != "pass"]
    if document["paused"]:
        yield "To go on", "gateway resume"
    for gate in open_gates:
        if gate["id"] == ROLLBACK_GATE:
            yield "To roll back", f"gateway approve {ROLLBACK_GATE}"
            yield "To leave treatment its traffic", f"gateway reject {ROLLBACK_GATE}"
        elif gate["type"] == "manual_approval":
            yield f"To approve ({gate['reason']})", f"gateway approve {gate['id']}"
        elif gate["type"] == "automated_test" and gate["verdict"] == "fail":
            yield "To read what the test said", "gateway history"
            yield "To run the test again", "gateway advance"
    obstacles = open_gates or document["paused"] or document["holds"] or _ailing(document)
    if document["next_phase"] is not None and not obstacles:
        share = f"{document['next_percentage']:g} % of users"
        yield f"To go on to {document['next_phase']}, with {share}", "gateway advance"
    yield "If treatment harms", "gateway emergency"


def _ailing(document: Document) -> bool:
    """True while treatment is away, or somebody was paged for it: nobody is advised to send it more users."""
    paged = any(alert["severity"] in _PAGED for alert in document["alerts"])
    return paged or document["treatment_absence"] is not None


def _ahead(at: str | None, now: float) -> str:
    """When a gate could pass, "" if nothing brings it nearer or it waits for people only."""
    if at is None:
        return ""
    left = datetime.fromisoformat(at).astimezone(UTC).timestamp() - now
    return f"at the earliest in {span(round(left))}" if left >= 1 else ""


def _unusable(endpoint: Document) -> str:
    """Why nobody is sent to an endpoint."""
    if endpoint["check"] is not False:
        return "its requests failed"
    return f"health check: {endpoint['check_error'] or 'passes again'}"


def _machinery(document: Document, now: float) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False, padding=_INDENT, show_header=False)
    newest = document["gateway"]["snapshot"]
    for worker in document["workers"]:
        behind = "" if worker["snapshot"] in (None, newest) else f", still on snapshot {worker['snapshot']}"
        requests = "not heard of yet" if worker["inflight"] is None else f"{worker['inflight']} in flight"
        up = f"up {ago(worker['since'], now)}"
        table.add_row(Text("worker", style="dim"), f"{worker['pid']}", f"{up}, {requests}{behind}")
    for name, upstream in document["upstreams"].items():
        breaker = upstream["breaker"]
        if breaker is not None and breaker["state"] != "closed":
            state = f"circuit breaker {breaker['state'].replace('_', '-')}: {breaker['cause']}"
            table.add_row(Text("upstream", style="dim"), name, Text(state, style="yellow"))
        elif not upstream["available"]:
            table.add_row(Text("upstream", style="dim"), name, Text("no usable endpoint", style="red"))
        for endpoint in upstream["endpoints"]:
            if not endpoint["usable"]:
                why = Text(_unusable(endpoint), style="yellow")
                table.add_row(Text("endpoint", style="dim"), endpoint["endpoint"], why)
    for channel in document.get("channels", ()):
        if channel["error"]:
            lost = f", {channel['dropped']} lost" if channel["dropped"] else ""
            state = f"does not take messages: {channel['error']}; {channel['waiting']} waiting{lost}"
            table.add_row(Text("channel", style="dim"), channel["name"], Text(state, style="red"))
    config = document["config"]
    loaded = f"in force for {ago(config['loaded_at'], now)}"
    table.add_row(Text("config", style="dim"), config["digest"][:_DIGEST_SHOWN], loaded)
    restarts = document["gateway"]["worker_restarts"]
    if restarts:
        table.add_row(Text("restarts", style="dim"), str(restarts), "workers ended unplanned")
    yield table
