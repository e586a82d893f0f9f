"""Faults that show only when two keys of a config are compared.

Each fault is a finding at a path. If it matters whether a key was written or is a default, the values as
written are used (`written`). It does not know where in a file a path stands, nor the rules for a
single value. What is valid but odd is in `control.config.cautions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from gateway.control.config.problems import Finding, KeyPath, Spot, path_text
from gateway.model.config import Config
from gateway.model.deployment import misspelt_phase
from gateway.model.experiment import Experiment
from gateway.model.metrics import nearest
from gateway.model.phases import DEFAULT_PHASES, MetricsThreshold
from gateway.model.snapshot import HashKind, configuration_header
from gateway.model.units import Address, TcpAddress, format_duration, format_number, shorten

Written = Mapping[str, Any]
"""The config as it was written, before defaults."""


def faults(config: Config, written: Written, missing: Collection[KeyPath] = ()) -> Iterator[Finding]:
    """Everything that makes the config unusable although each value by itself is right.

    `missing` are paths of values that were taken out because they are wrong by themselves. A check
    is left out where it would miss a whole entry of what it reads: it would only say the same again
    in other words. A value deep inside an entry says nothing about the names that others refer to.
    """
    for check, paths in _CHECKS.items():
        if not any(_lacks_entry(path, gone) for path in paths for gone in missing):
            yield from check(config, written)


def _lacks_entry(path: KeyPath, gone: KeyPath) -> bool:
    """True if what stands at `path`, or an entry right below it, is gone."""
    length = min(len(path), len(gone))
    return path[:length] == gone[:length] and len(gone) <= len(path) + 1


def _addresses(config: Config, written: Written) -> Iterator[Finding]:
    public = not config.listen.address.is_local
    if public and "initial_phase" not in _mapping(written.get("deployment")):
        yield Finding(
            ("listen", "address"),
            f"{config.listen.address} can be reached from other machines, "
            "and deployment.initial_phase is not written",
            f"expected it to be written: with public users a gateway starts at canary, "
            f"while {config.deployment.initial_phase} would be the default",
        )
    if not config.admin.address.is_local and not config.admin.tokens:
        yield Finding(
            ("admin", "address"),
            f"{config.admin.address} can be reached from other machines, and there are no admin.tokens",
            "expected a loopback or unix: address, or tokens as in {alice: alice.token}",
        )
    addresses = {
        ("listen", "address"): config.listen.address,
        ("admin", "address"): config.admin.address,
        ("health", "address"): config.health.address,
    }
    for (first, one), (second, other) in combinations(addresses.items(), 2):
        if _collide(one, other):
            yield Finding(second, f"{other} is taken by {path_text(first)}", "expected an address of its own")


def _collide(one: Address, other: Address) -> bool:
    if isinstance(one, TcpAddress) and isinstance(other, TcpAddress):
        everywhere = {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
        hosts = {one.host, other.host}
        return one.port == other.port != 0 and (len(hosts) == 1 or bool(hosts & everywhere))
    return one == other


def _state(config: Config, _: Written) -> Iterator[Finding]:
    store = config.state.store
    if store.startswith("redis://"):
        yield Finding(("state", "store"), "redis is not supported yet", "expected sqlite")
    elif store != "sqlite":
        yield Finding(("state", "store"), f"{shorten(store)!r} is not a store", "expected sqlite")
    if config.state.fleet is not None:
        yield Finding(
            ("state", "fleet"), "a fleet that shares one state is not supported yet", "expected null"
        )


def _people(config: Config, _: Written) -> Iterator[Finding]:
    sources = [f"{source.kind}:{source.name}" for source in config.identity.sources]
    yield from _repeated(("identity", "sources"), sources, "source")
    users = config.overrides.users
    yield from _repeated(("overrides", "users", "treatment"), users.treatment, "user")
    yield from _repeated(("overrides", "users", "control"), users.control, "user")
    treated = set(users.treatment)
    for index, user in enumerate(users.control):
        if user in treated:
            yield Finding(
                ("overrides", "users", "control", index),
                f"the user {shorten(user)!r} is under treatment too",
                "expected each user in one arm",
            )
    owners: dict[str, str] = {}
    for name, token in config.admin.tokens.items():
        owner = owners.setdefault(token.secret, name)
        if owner != name:
            wrong = f"the token is the same as {owner}'s"
            yield Finding(("admin", "tokens", name), wrong, "expected a token for each operator")


def _upstreams(config: Config, _: Written) -> Iterator[Finding]:
    for name, upstream in config.upstreams.items():
        yield from _repeated(("upstreams", name, "endpoints"), upstream.endpoints, "endpoint")


def _routes(config: Config, _: Written) -> Iterator[Finding]:
    yield from _repeated(("routes",), [route.name for route in config.routes], "route", "name")
    for index, route in enumerate(config.routes):
        headers = [name.lower() for name in route.match.headers]
        for name in route.match.headers:
            if headers.count(name.lower()) > 1:
                wrong = f"the header {name} is written twice: the case of its letters makes no difference"
                yield Finding(
                    ("routes", index, "match", "headers", name), wrong, "expected it once", Spot.KEY
                )
        for key in ("control", "treatment"):
            yield from _unknown(("routes", index, key), getattr(route, key), config.upstreams, "upstream")
        if route.experiment is not None:
            path = ("routes", index, "experiment")
            yield from _unknown(path, route.experiment, config.deployment.experiments, "experiment")


def _experiments(config: Config, _: Written) -> Iterator[Finding]:
    for name, experiment in config.deployment.experiments.items():
        path: KeyPath = ("deployment", "experiments", name)
        for group_name, group in experiment.groups.items():
            if group.upstream is not None:
                yield from _unknown(
                    (*path, "groups", group_name, "upstream"), group.upstream, config.upstreams, "upstream"
                )
        yield from experiment_faults(path, experiment)


def experiment_faults(path: KeyPath, experiment: Experiment) -> Iterator[Finding]:
    """What is wrong with an experiment by itself, beyond single values."""
    yield from _weights((*path, "groups"), experiment)
    for name, group in experiment.groups.items():
        keys = group.configuration.model_dump(exclude_none=True)
        yield from _headers((*path, "groups", name, "configuration"), keys)
    metrics = [metric.name for metric in experiment.success_metrics]
    yield from _repeated((*path, "success_metrics"), metrics, "metric")


def _headers(path: KeyPath, keys: Iterable[str]) -> Iterator[Finding]:
    """The keys of a configuration that pipelines would not see, or not tell from others."""
    owners: dict[str, str] = {}
    for key in keys:
        header = configuration_header(key)
        owner = owners.setdefault(header, key)
        if not header:
            wrong = f"no header can be named after {shorten(key)!r}"
            yield Finding((*path, key), wrong, "expected a letter or a digit in the key", Spot.KEY)
        elif owner != key:
            wrong = f"the header {header} is that of {shorten(owner)} too"
            yield Finding((*path, key), wrong, "expected a header for each key", Spot.KEY)


def _weights(path: KeyPath, experiment: Experiment) -> Iterator[Finding]:
    if not any(group.weight for group in experiment.groups.values()):
        yield Finding(path, "all weights are 0: nobody would be in a group", "expected a weight above 0")
    if experiment.hash is HashKind.SHA256:
        for name, group in experiment.groups.items():
            if group.weight.denominator != 1:
                wrong = f"{format_number(group.weight)} is not whole, and sha256 counts in whole weights"
                yield Finding((*path, name, "weight"), wrong, "expected a whole weight, or hash: xxh3")


def _ladder(config: Config, written: Written) -> Iterator[Finding]:
    deployment = config.deployment
    ladder, phases = deployment.ladder, deployment.phases
    written_ladder = "ladder" in _mapping(written.get("deployment"))
    yield from _repeated(("deployment", "ladder"), ladder, "phase")
    for index, name in enumerate(ladder):
        if name not in phases:
            yield Finding(
                ("deployment", "ladder", index),
                f"the phase {name!r} is not defined{nearest(name, [*phases, *DEFAULT_PHASES])}",
                f"expected it under deployment.phases, or one of {', '.join(DEFAULT_PHASES)}",
            )
    for name in phases:
        meant = None if written_ladder else misspelt_phase(name)
        if name not in ladder:
            yield Finding(
                ("deployment", "phases", name),
                f"the phase {name!r} is not in deployment.ladder{nearest(name, ladder)}",
                "expected it there, to say between which phases it stands",
                Spot.KEY,
            )
        elif meant is not None:
            yield Finding(
                ("deployment", "phases", name),
                f"unknown phase {name!r} (did you mean {meant}?)",
                "expected deployment.ladder with all phases in their order, if it is a phase of your own",
                Spot.KEY,
            )
    yield from _unknown(("deployment", "initial_phase"), deployment.initial_phase, ladder, "phase")


def _gates(config: Config, _: Written) -> Iterator[Finding]:
    ladder = config.deployment.ladder
    followers = dict(pairwise(ladder))
    for transition, gates in config.deployment.gates.items():
        source, target = transition.source, transition.target
        path: KeyPath = ("deployment", "gates", str(transition))
        unknown = [name for name in (source, target) if name not in ladder]
        for name in unknown:
            yield from _unknown(path, name, ladder, "phase", Spot.KEY)
        if not unknown and followers.get(source) != target:
            steps = ", ".join(f"{one} -> {next_one}" for one, next_one in followers.items())
            wrong = f"{target} is not the phase after {source}"
            yield Finding(path, wrong, f"expected one of {steps}", Spot.KEY)
        for index, gate in enumerate(gates):
            if isinstance(gate, MetricsThreshold) and not gate.thresholds.by_metric():
                expected = "expected one at least, as in {error_rate: < 0.01}"
                yield Finding((*path, index, "thresholds"), "there is no threshold", expected)


def _monitoring(config: Config, _: Written) -> Iterator[Finding]:
    monitoring = config.deployment.monitoring
    if monitoring.window < monitoring.interval:
        yield Finding(
            ("deployment", "monitoring", "window"),
            f"{format_duration(monitoring.window)} is shorter than monitoring.interval",
            f"expected at least {format_duration(monitoring.interval)}",
        )
    yield from _repeated(("deployment", "monitoring", "dashboards"), monitoring.dashboards, "section")


def _contacts(config: Config, _: Written) -> Iterator[Finding]:
    channels = config.notifications.channels
    for team, channel in config.notifications.contacts.items():
        yield from _unknown(("notifications", "contacts", team), channel, channels, "channel")
    teams = [contact.team for contact in config.deployment.rollback.emergency_contacts]
    yield from _repeated(("deployment", "rollback", "emergency_contacts"), teams, "team", "team")


_CHECKS: Mapping[Callable[[Config, Written], Iterator[Finding]], tuple[KeyPath, ...]] = {
    _addresses: (("listen",), ("admin",), ("admin", "tokens"), ("health",)),
    _state: (("state",),),
    _people: (("identity",), ("overrides",), ("overrides", "users"), ("admin",), ("admin", "tokens")),
    _upstreams: (("upstreams",),),
    _routes: (("upstreams",), ("routes",), ("deployment", "experiments")),
    _experiments: (("upstreams",), ("deployment", "experiments")),
    _ladder: (("deployment", "phases"), ("deployment", "ladder"), ("deployment", "initial_phase")),
    _gates: (("deployment", "phases"), ("deployment", "ladder"), ("deployment", "gates")),
    _monitoring: (("deployment", "monitoring"),),
    _contacts: (("notifications",), ("notifications", "channels"), ("deployment", "rollback")),
}
"""Each check, and what it reads."""

_HOMES = {
    "upstream": "upstreams",
    "experiment": "deployment.experiments",
    "phase": "deployment.phases",
    "channel": "notifications.channels",
}
"""Where what others name is defined."""


def _unknown(
    path: KeyPath, name: str, known: Iterable[str], what: str, spot: Spot = Spot.VALUE
) -> Iterator[Finding]:
    known = list(known)
    if name not in known:
        choices = f"expected one of {', '.join(known)}" if known else f"expected one under {_HOMES[what]}"
        yield Finding(path, f"unknown {what} {shorten(name)!r}{nearest(name, known)}", choices, spot)


def _repeated(path: KeyPath, names: Sequence[str], what: str, key: str | None = None) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            place = (*path, index) if key is None else (*path, index, key)
            yield Finding(place, f"the {what} {shorten(name)!r} stands here twice", "expected it once")
        seen.add(name)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
