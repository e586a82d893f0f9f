"""`gateway experiment`: list experiments, show their results, and start, pause, conclude or delete them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gateway.commands import client, options
from gateway.commands.spans import span
from gateway.core.results.wording import amount, chance, difference, percent, probability
from gateway.core.shares import format_share
from gateway.exits import Exit

Document = Mapping[str, Any]

_DESCRIPTION = """\
Experiments compare groups of the enrolled users. `show` may be looked at as often as one likes: its
intervals hold at every moment together."""
_SECONDS_A_DAY = 86_400
_NOTICED = 60.0
"""Seconds that must be missing from an experiment's running time before anybody is told."""
_NOTHING = "-"


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "experiment", help="list, show, start, pause, conclude experiments", description=_DESCRIPTION
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    reading = [options.client_options()]
    listing = actions.add_parser("list", help="all experiments", parents=reading)
    listing.set_defaults(execute=_list)
    show = actions.add_parser("show", help="one experiment and its results", parents=reading)
    show.set_defaults(execute=_show)
    _add_id(show)
    writing = [*reading, options.audit_options()]
    for name, summary in (
        ("start", "run a draft, or one that is paused"),
        ("pause", "count nothing from now on; users stay in their groups"),
        ("conclude", "end it: the winner serves everybody who is enrolled"),
    ):
        action = actions.add_parser(name, help=summary, description=summary, parents=writing)
        action.set_defaults(execute=_step, action=name, winner=None)
        _add_id(action)
        if name == "conclude":
            action.add_argument("--winner", metavar="GROUP", required=True, help="the group that won")
    summary = "delete a draft that was made by the API"
    deleting = actions.add_parser("delete", help=summary, description=summary, parents=writing)
    deleting.set_defaults(execute=_delete)
    _add_id(deleting)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the experiment's id")


def _list(args: argparse.Namespace) -> int:
    return _print(args, lambda gateway: gateway.get("experiments"), render_list)


def _show(args: argparse.Namespace) -> int:
    path = f"experiments/{quote(args.id, safe='')}"
    return _print(args, lambda gateway: gateway.get(path), render)


def _step(args: argparse.Namespace) -> int:
    path = f"experiments/{quote(args.id, safe='')}/{args.action}"
    body = client.audit_fields(args)
    if args.winner is not None:
        body["winner"] = args.winner
    return _print(args, lambda gateway: gateway.post(path, body), render_step)


def _delete(args: argparse.Namespace) -> int:
    path = f"experiments/{quote(args.id, safe='')}"
    return _print(
        args,
        lambda gateway: gateway.delete(path, client.audit_fields(args)),
        lambda deleted: f"{deleted['id']} is deleted.",
    )


def _print(
    args: argparse.Namespace, ask: Callable[[client.AdminClient], Any], text: Callable[[Any], str]
) -> int:
    def run(gateway: client.AdminClient) -> int:
        answer = ask(gateway)
        print(json.dumps(answer) if args.output == "json" else text(answer))
        return Exit.DONE

    return client.run(args, run)


def render_step(experiment: Document) -> str:
    """Where the experiment stands after a step, and what it came to where that was its end."""
    winner = f", {experiment['winner']} won" if experiment["winner"] else ""
    lines = [f"{experiment['id']} is {experiment['status']}{winner}."]
    if not experiment["acknowledged"]:
        lines.append("Not every worker serves by it yet; see: gateway status")
    if experiment["rollout_paused"]:
        lines.append("Control won, so the rollout is paused; to roll out further: gateway resume")
    if experiment["status"] == "concluded":
        lines.append(_verdict(experiment))
    return "\n".join(lines)


# --- what people read ---------------------------------------------------------------------------


def render_list(experiments: Sequence[Document]) -> str:
    """All experiments, a line each."""
    if not experiments:
        return "There are no experiments."
    rows = [
        [one["id"], one["status"], f"{one['participants']:,}", one["verdict"] or _NOTHING, one["explanation"]]
        for one in experiments
    ]
    return "\n".join(table(["experiment", "status", "users", "verdict", ""], rows, numbers={2}))


def render(experiment: Document) -> str:
    """One experiment: the verdict first, then the groups, then what was measured."""
    lines = [
        f"{experiment['id']} is {experiment['status']}{_since(experiment)}",
        *([experiment["name"]] if experiment["name"] != experiment["id"] else []),
        "",
        _verdict(experiment),
        *_notes(experiment),
        "",
        *_groups(experiment),
    ]
    if experiment["metrics"]:
        lines += ["", *_metrics(experiment)]
    return "\n".join(lines)


def _verdict(experiment: Document) -> str:
    """The verdict with its sentence; none once it is concluded and the verdict was to go on."""
    verdict, explanation = experiment["verdict"], experiment["explanation"]
    if experiment["status"] == "concluded" and verdict == "continue":
        return f"{explanation[0].upper()}{explanation[1:]}"
    return f"{(verdict or 'no verdict').upper()}: {explanation}"


def _since(experiment: Document) -> str:
    if experiment["started_at"] is None:
        return ""
    ran, counted = experiment["running_seconds"], experiment["counted_seconds"]
    uncounted = f", but counted for {span(counted)} only" if ran - counted >= _NOTICED else ""
    return f", started {_moment(experiment['started_at'])}, has run for {span(ran)}{uncounted}"


def _moment(timestamp: str) -> str:
    """A time to the minute, in UTC."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _notes(experiment: Document) -> Iterator[str]:
    ratio = experiment["sample_ratio"]
    if not ratio["ok"]:
        yield (
            "The groups are not as large as their weights say: find out who is lost on the way "
            "before believing any number below."
        )
    if experiment["planned_end"] is not None:
        to_go = experiment["days_to_go"]
        forecast = "" if to_go is None else f"; forecast: {span(to_go * _SECONDS_A_DAY)} to go"
        yield f"Planned end: {_moment(experiment['planned_end'])}{forecast}."
    if experiment["minimum_sample_size"] > 1:
        least = experiment["minimum_sample_size"]
        yield f"Nothing is shown of a metric before {least:,} users of a group have it."


def _groups(experiment: Document) -> list[str]:
    rows = [
        [name, format_share(group["share"]), f"{group['participants']:,}", f"{group['requests']:,}"]
        for name, group in experiment["groups"].items()
    ]
    p_value = experiment["sample_ratio"]["p_value"]
    lines = table(["group", "share", "users", "requests"], rows, numbers={1, 2, 3})
    return lines if p_value is None else [*lines, f"sample ratio: {chance(p_value)}"]


def _metrics(experiment: Document) -> list[str]:
    rows = []
    for name, metric in experiment["metrics"].items():
        compared = {one["group"]: one for one in metric["comparisons"]}
        for index, (group, found) in enumerate(metric["groups"].items()):
            label = f"{name}{_role(metric, decides=name == experiment['primary'])}" if index == 0 else ""
            rows.append(
                [
                    label,
                    group,
                    f"{found['n']:,}",
                    _mean(name, found["mean"]),
                    *_compared(name, compared.get(group)),
                ]
            )
    header = ["metric", "group", "users", "mean", "difference", "lift", "99 % interval", "p"]
    return table(header, rows, numbers={2, 3, 4, 5, 6, 7})


def _role(metric: Document, *, decides: bool) -> str:
    """Which way a success metric is better, and whether it is the one that decides."""
    better = {"up": "more is better", "down": "less is better"}.get(metric["direction"] or "")
    if better is None:
        return ""
    return f" ({better}, decides)" if decides else f" ({better})"


def _mean(metric: str, value: float | None) -> str:
    return _NOTHING if value is None else amount(value, metric)


def _compared(metric: str, comparison: Document | None) -> list[str]:
    """Difference, lift, interval and p-value, in the metric's unit."""
    if comparison is None:
        return [_NOTHING] * 4
    told, lift, bounds = comparison["difference"], comparison["lift"], comparison["interval"]
    if told == 0.0 and bounds == [0.0, 0.0]:
        return ["none", *[_NOTHING] * 3]  # all users alike, mostly without any failure: nothing to compare
    low, high = (_NOTHING if bound is None else difference(bound, metric) for bound in bounds)
    return [
        _NOTHING if told is None else difference(told, metric),
        _NOTHING if lift is None else percent(lift),
        f"{low.removesuffix(' points')} to {high}",
        probability(comparison["p_value"]),
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> list[str]:
    """Aligned columns, those of `numbers` to the right; nothing at the ends of lines."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
