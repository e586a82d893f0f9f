"""`gateway explain`: which arm serves a user, and why.

It prints what `core.explain` found, either from a config file or from the running gateway. The document is
the same in both cases.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.commands import client, options
from gateway.commands.offline import report_invalid, snapshot_of
from gateway.core.explain import Question, explain
from gateway.core.shares import format_share
from gateway.core.split import Reason, Table
from gateway.exits import Exit

_DESCRIPTION = """\
The decision for a user and its reason: latch, overrides, the position under the phase's percentage,
the position among the experiment's groups. Asks the running gateway; with --config it uses a file,
as if the latch were off and every upstream healthy."""

Document = Mapping[str, Any]

_LABEL_WIDTH = 12


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "explain",
        help="which arm serves a user, and why",
        description=_DESCRIPTION,
        parents=[options.client_options()],
    )
    parser.add_argument("user", metavar="USER", help="the user id; '' for a request without one")
    parser.add_argument("--path", default="/", metavar="P", help="the request's path (default: /)")
    parser.add_argument("--method", default="GET", metavar="M", help="the request's method (default: GET)")
    parser.add_argument(
        "--header",
        dest="headers",
        type=_header,
        action="append",
        default=[],
        metavar="'N: V'",
        help="a header that routes match on; repeatable",
    )
    parser.add_argument("--config", type=Path, metavar="F", help="use this file; needs no gateway")
    parser.add_argument("--phase", metavar="NAME", help="with --config: in this phase, not the initial one")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Print the explanation; 0 also where no route matches, for that is an answer too."""
    question = Question(args.user, args.path, args.method, dict(args.headers))
    if args.config is not None:
        return report_invalid(
            lambda: _print(_decide(question, args.config, args.phase), question, args.output)
        )
    return client.run(args, lambda gateway: _print(_ask(question, gateway), question, args.output))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not written as 'Name: value'")
    return name.strip().lower(), value.strip()


def _ask(question: Question, gateway: client.AdminClient) -> Document:
    query = [("user", question.user), ("path", question.path), ("method", question.method)]
    query += [("header", f"{name}: {value}") for name, value in question.headers.items()]
    answer: Document = gateway.get("explain", query)
    return answer


def _decide(question: Question, config: Path, phase: str | None) -> Document:
    snapshot = snapshot_of(config, phase)
    available = [True] * len(snapshot.upstreams)
    return asdict(explain(Table(snapshot), question, latched=False, available=available))


def _print(document: Document, question: Question, output: str) -> int:
    if output == "json":
        print(json.dumps(document, indent=2))
    else:
        print(render(document, f"{question.method} {question.path}"))
    return Exit.DONE


def render(document: Document, request: str) -> str:
    """The explanation for people: who serves and why in two lines, the figures below."""
    lines = [*_headline(document, request), "", *_figures(document, request)]
    return "\n".join(lines).encode(errors="replace").decode()


def _headline(document: Document, request: str) -> Iterator[str]:
    user = document["user"] or "a request without a user id"
    if document["route"] is None:
        yield f"No route matches {request}: the gateway answers it with an error."
        return
    if document["arm"] is None:
        yield f"{user} is served by either arm: each request is drawn afresh."
        return
    yield f"{user} is served by {document['arm'].upper()} (upstream {document['upstream']})."
    yield _because(document)


def _because(document: Document) -> str:
    match Reason(document["reason"]):
        case Reason.LATCH:
            return "The latch is engaged: everything goes to control."
        case Reason.NO_HEALTHY_ENDPOINT:
            return f"{document['assigned']} has no healthy endpoint: control answers in its place."
        case Reason.OVERRIDE:
            return "The user is on the list of overrides, whatever the positions below say."
        case Reason.NO_IDENTITY:
            return "Requests without a user id go to control."
        case Reason.NOT_ENROLLED:
            return "The user is not enrolled in this phase."
        case Reason.GROUP:
            return f"The user is in group {document['group']} of experiment {document['experiment']}."
        case Reason.NO_EXPERIMENT:
            return "The user is enrolled, and the route has no running experiment."


def _figures(document: Document, request: str) -> Iterator[str]:
    yield _labelled("request", f"{request} → {document['route'] or 'no route'}")
    yield _labelled("phase", document["phase"])
    if bucket := document["enrolment"]:
        relation, state = ("under", "enrolled") if bucket["enrolled"] else ("not under", "not enrolled")
        position, threshold = format_share(bucket["position"]), format_share(bucket["threshold"])
        yield _labelled("enrolment", f"position {position} is {relation} {threshold}: {state}")
    if document["experiment"]:
        yield _labelled("experiment", _experiment(document))
        yield from _ranges(document)
    version = document["snapshot"]
    yield _labelled("snapshot", f"{version or 'from a file'} (config {document['digest'][:12]})")


def _labelled(label: str, text: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}}{text}"


def _experiment(document: Document) -> str:
    position = document["position"]
    where = "" if position is None else f": position {format_share(position)}"
    return f"{document['experiment']}{where}"


def _ranges(document: Document) -> Iterator[str]:
    ranges: Sequence[Document] = document["ranges"]
    position = document["position"]
    names = max(len(part["group"]) for part in ranges)
    borders = [(format_share(part["start"]), format_share(part["end"])) for part in ranges]
    width = max(len(text) for pair in borders for text in pair)
    for part, (start, end) in zip(ranges, borders, strict=True):
        line = f"  {start:>{width}} to {end:>{width}}  {part['group']:<{names}}  {part['arm']}"
        here = position is not None and part["start"] <= position < part["end"]
        yield _labelled("", f"{line}  {_mark(document)}" if here else line)


def _mark(document: Document) -> str:
    """What stands behind the range that holds the user."""
    if document["group"] is not None:
        return "◀"
    return "(once enrolled)" if document["reason"] == Reason.NOT_ENROLLED else "(were it not for the above)"
