"""The demo in plain text: a line now and then if there is no terminal, and the summary at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gateway.demo.picture import Event, Guide, Picture, clock, latency, short
from gateway.model.snapshot import Arm


def opening(guide: Guide) -> Iterator[str]:
    """Where to look."""
    yield f"gateway   {guide.traffic}"
    yield f"dashboard {guide.admin}/"
    yield f"config    {guide.config} (reloads when saved)"
    yield f"try       {guide.request}"
    yield f"stop      {guide.line('emergency')}   undo: {guide.line('release')}"


def progress(picture: Picture) -> str:
    """The state and both arms on one line."""
    status = picture.reading.status
    if status is None:
        state = "control process silent"
    elif status.latch.engaged:
        state = f"LATCH ENGAGED ({status.latch.kind})"
    else:
        state = f"{status.phase} {status.user_percentage:g}%"
    return " | ".join((clock(picture.elapsed), state, *(_arm(picture, arm) for arm in Arm)))


def event_line(event: Event) -> str:
    """A change, with its time."""
    return f"{clock(event.at)} | * {event.change.text}"


def _arm(picture: Picture, arm: Arm) -> str:
    figures = picture.figures[arm]
    p50, p99 = latency(figures.completion.p50), latency(figures.completion.p99)
    return (
        f"{arm.label} {figures.requests:,} ({figures.share:.1%}) {figures.rate:.1f}/s "
        f"failed {figures.errors:,} p50 {p50} p99 {p99}"
    )


def summary(picture: Picture) -> Iterator[str]:
    """What the demo has shown, and what to do next."""
    total = sum(figures.requests for figures in picture.figures.values())
    yield f"{total:,} requests by {picture.users} users in {picture.elapsed:.0f} s"
    for arm, figures in picture.figures.items():
        yield (
            f"  {arm.label:<10}{figures.requests:>7,} requests  {picture.overall_shares[arm]:>6.1%}  "
            f"{figures.users:>4} users  {figures.errors:>4,} failed  p50 {latency(figures.completion.p50)}"
        )
    if picture.unanswered:
        yield f"  {picture.unanswered:,} requests without an answer from the gateway"
    yield f"  {_movers(picture.movers)}"
    metrics = picture.reading.metrics
    if not math.isnan(metrics.overhead_p99):
        costs = f"{short(metrics.overhead_p50)} to a request (p99 {short(metrics.overhead_p99)})"
        yield f"  the gateway added {costs} and held {picture.memory / 1e6:.0f} MB in all its processes"
    yield "next"
    command = picture.guide.command
    yield f"  {command} demo --fault treatment.errors=0.3@10s    see treatment fail"
    yield f"  {command} check config/gateway.yaml                a config of your own"
    yield f"  {command} run config/gateway.yaml                  serve with it"


def _movers(count: int) -> str:
    if count == 0:
        return "every user stayed in one arm"
    return f"{count} user{'s' * (count > 1)} changed arm: by the latch, a failover, or an edit of the config"
