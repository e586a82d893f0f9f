"""The warnings of `check` and `run`: what a config may say but probably should not.

Each warning is a finding at a path, on a config without faults. It does not know where in a file a path
stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gateway.control.config.crosscheck import Written
from gateway.control.config.problems import Finding, KeyPath, Spot
from gateway.control.traffic import MOST_RECENT
from gateway.model.config import Config, Match
from gateway.model.experiment import CONTROL_GROUP, TREATMENT_GROUP, Experiment
from gateway.model.phases import ManualApproval
from gateway.model.places import VARIABLE
from gateway.model.units import format_duration, format_number


def cautions(config: Config, written: Written) -> Iterator[Finding]:
    """What is allowed and still worth a word."""
    yield from _descents(config)
    yield from _idle_definitions(config)
    for name, experiment in config.deployment.experiments.items():
        path = ("deployment", "experiments", name)
        yield from experiment_cautions(path, experiment, _at(written, path))
    yield from _shadowed_routes(config)
    yield from _absent_people(config)
    yield from _deaf_channels(config)
    yield from _long_window(config)
    yield from _slow_checks(config)
    yield from _unexpanded(written, ())


def _descents(config: Config) -> Iterator[Finding]:
    phases, ladder = config.deployment.phases, config.deployment.ladder
    shares = {name: phases[name].user_percentage if phases[name].dspy_enabled else 0 for name in phases}
    begun = ladder.index(config.deployment.initial_phase)
    for index, (name, follower) in enumerate(pairwise(ladder)):
        if shares[name] > shares[follower]:
            advice = f"start at {follower} where users are public (deployment.initial_phase)"
            yield Finding(
                ("deployment", "phases", name, "user_percentage"),
                f"{name} enrols {format_number(shares[name])} % of the users, more than {follower} after it "
                f"({format_number(shares[follower])} %)",
                advice if begun <= index else "",
            )


def _idle_definitions(config: Config) -> Iterator[Finding]:
    experiments = config.deployment.experiments
    groups = [group for experiment in experiments.values() for group in experiment.groups.values()]
    used = {name for route in config.routes for name in (route.control, route.treatment)}
    used |= {group.upstream for group in groups if group.upstream is not None}
    for name in config.upstreams:
        if name not in used:
            yield Finding(("upstreams", name), "no route and no group names this upstream", "", Spot.KEY)
    running = {route.experiment for route in config.routes}
    for name in experiments:
        if name not in running:
            path = ("deployment", "experiments", name)
            yield Finding(path, "no route names this experiment: nobody takes part in it", "", Spot.KEY)


def experiment_cautions(path: KeyPath, experiment: Experiment, written: Any) -> Iterator[Finding]:
    """What an experiment says by itself that is worth a word; `written` is how it was written."""
    groups: KeyPath = (*path, "groups")
    if sum(group.weight > 0 for group in experiment.groups.values()) == 1:
        yield Finding(groups, "only one group has users: there is nothing to compare", "", Spot.KEY)
    for name, group in experiment.groups.items():
        said = _at(written, ("groups", name, "configuration", "dspy_enabled")) is not None
        if said or group.upstream is not None or name in (CONTROL_GROUP, TREATMENT_GROUP):
            continue
        wrong = f"the group {name} says neither dspy_enabled nor upstream: control serves it"
        yield Finding((*groups, name), wrong, "", Spot.KEY)
    if not experiment.success_metrics:
        wrong = "no success metric is named: the results will name no winner"
        yield Finding((*path, "success_metrics"), wrong, "", Spot.KEY)


def _at(value: Any, path: KeyPath) -> Any:
    """What was written at a path; None where nothing was."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _shadowed_routes(config: Config) -> Iterator[Finding]:
    for index, route in enumerate(config.routes):
        earlier = next((other for other in config.routes[:index] if _covers(other.match, route.match)), None)
        if earlier is not None:
            wrong = f"the route {route.name} never matches: {earlier.name} before it takes its requests"
            yield Finding(("routes", index), wrong, "")


def _covers(one: Match, other: Match) -> bool:
    """True if every request that `other` matches is matched by `one`."""
    methods = not one.methods or (bool(other.methods) and set(other.methods) <= set(one.methods))
    headers = {name.lower(): value for name, value in other.headers.items()}
    return (
        other.path_prefix.startswith(one.path_prefix)
        and methods
        and all(headers.get(name.lower()) == value for name, value in one.headers.items())
    )


def _absent_people(config: Config) -> Iterator[Finding]:
    contacts = config.notifications.contacts
    for index, contact in enumerate(config.deployment.rollback.emergency_contacts):
        if contact.oncall and contact.team not in contacts:
            yield Finding(
                ("deployment", "rollback", "emergency_contacts", index),
                f"{contact.team} is on call and has no channel under notifications.contacts: nobody is paged",
                "",
            )
    for transition, gates in config.deployment.gates.items():
        for index, gate in enumerate(gates):
            if isinstance(gate, ManualApproval) and 1 < gate.approvals > len(config.admin.tokens):
                yield Finding(
                    ("deployment", "gates", str(transition), index, "approvals"),
                    f"{gate.approvals} approvals need as many named operators, "
                    f"and admin.tokens names {len(config.admin.tokens)}: this gate cannot pass",
                    "",
                )


def _deaf_channels(config: Config) -> Iterator[Finding]:
    """Channels that nothing is sent to, and teams whose channel nobody asks for."""
    teams = {contact.team for contact in config.deployment.rollback.emergency_contacts}
    contacts = config.notifications.contacts
    asked = {channel for team, channel in contacts.items() if team in teams}
    for name, channel in config.notifications.channels.items():
        if not channel.severities and name not in asked:
            wrong = f"{name} receives nothing: it names no severity, and is no emergency contact's channel"
            yield Finding(("notifications", "channels", name), wrong, "", Spot.KEY)
    for team in contacts:
        if team not in teams:
            wrong = f"{team} is not among rollback.emergency_contacts: it is never notified"
            yield Finding(("notifications", "contacts", team), wrong, "", Spot.KEY)


def _long_window(config: Config) -> Iterator[Finding]:
    window = config.deployment.monitoring.window
    if window > MOST_RECENT:
        yield Finding(
            ("deployment", "monitoring", "window"),
            f"{format_duration(window)} is longer than what is remembered: alerts and status use the last "
            f"{format_duration(MOST_RECENT)}",
            "",
        )


def _slow_checks(config: Config) -> Iterator[Finding]:
    for name, upstream in config.upstreams.items():
        check = upstream.health_check
        if check is not None and check.timeout > check.interval:
            yield Finding(
                ("upstreams", name, "health_check", "timeout"),
                f"a check may take {format_duration(check.timeout)}, longer than the interval "
                f"of {format_duration(check.interval)}",
                "",
            )


def _unexpanded(value: Any, path: KeyPath) -> Iterator[Finding]:
    """`${NAME}` where it stays text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _unexpanded(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unexpanded(item, (*path, index))
    elif isinstance(value, str) and not _is_secret(path):
        match = VARIABLE.search(value)
        if match:
            yield Finding(path, f"{match[0]} is not expanded here: only the urls of channels are", "")


def _is_secret(path: KeyPath) -> bool:
    return path[:2] == ("notifications", "channels") and path[-1] == "url"
