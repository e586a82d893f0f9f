"""What a reload may change, decided from the old config and the new one.

Three questions: which keys changed, which of them need a restart, and what must not change under a
running rollout. The answers are pure functions; the caller acts on them. It covers experiments that a
config holds; for those created by the API see `core.experiment_reload`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from gateway.model.config import Admin, Config
from gateway.model.experiment import Experiment
from gateway.model.fields import Section


def changed_keys(old: Config, new: Config) -> tuple[str, ...]:
    """The top-level keys whose values differ, and those of `deployment` one level down, for the history."""
    keys = [
        [f"{key}.{inner}" for inner in _differing(old.deployment, new.deployment)]
        if key == "deployment"
        else [key]
        for key in _differing(old, new)
    ]
    return tuple(key for group in keys for key in group)


def _differing(old: Section, new: Section) -> Iterator[str]:
    for name, field in type(old).model_fields.items():
        if getattr(old, name) != getattr(new, name):
            yield field.alias or name


def restart_required(old: Config, new: Config) -> tuple[str, ...]:
    """The top-level keys that changed and that only a restart applies.

    A token file whose content changed is not among them: the name and the path of a token are the
    config's, the secret is not.
    """
    changed = {
        "listen": old.listen != new.listen,
        "admin": old.admin.address != new.admin.address or _token_files(old.admin) != _token_files(new.admin),
        "health": old.health != new.health,
        "state": old.state != new.state,
    }
    return tuple(key for key, differs in changed.items() if differs)


def _token_files(admin: Admin) -> Mapping[str, Path]:
    return {name: token.path for name, token in admin.tokens.items()}


def reload_conflicts(
    old: Config, new: Config, current_phase: str, assigning: Collection[str] | None = None
) -> tuple[str, ...]:
    """Why `new` may not replace `old` while the rollout stands in `current_phase`; empty if it may.

    `assigning` are the experiments that deal users to groups, running or paused; None stands for those
    that `old` enables. Each text names the key, what is wrong and the way out.
    """
    conflicts = []
    if current_phase not in new.deployment.ladder:
        conflicts.append(
            f"deployment.phases: the current phase {current_phase} is gone; "
            "advance or roll back to a phase that stays, then reload"
        )
    resalted = old.deployment.rollout_salt != new.deployment.rollout_salt
    for name, before in old.deployment.experiments.items():
        after = new.deployment.experiments.get(name)
        running = before.enabled if assigning is None else name in assigning
        if after is None or not running or after.revision > before.revision:
            continue
        changed = [*_changed(before, after), *(["deployment.rollout_salt"] if resalted else [])]
        if changed:
            conflicts.append(
                f"deployment.experiments.{name}: {', '.join(changed)} changed while it runs, which would "
                f"move its users; conclude it first, or raise its revision to {before.revision + 1}, "
                "which starts a new epoch"
            )
    return tuple(conflicts)


def refusals(
    old: Config, new: Config, current_phase: str, assigning: Collection[str] | None = None
) -> tuple[str, ...]:
    """Every reason to refuse the reload whole: keys that need a restart, then conflicts with the rollout."""
    restart = tuple(
        f"{key}: changed, which needs a restart; restart the gateway, or put it back"
        for key in restart_required(old, new)
    )
    return restart + reload_conflicts(old, new, current_phase, assigning)


def _changed(before: Experiment, after: Experiment) -> list[str]:
    """The keys that decide who is in which group, and in which epoch, and that differ."""
    differs = {
        "weights": _weights(before) != _weights(after),
        "seed": before.seed != after.seed,
        "hash": before.hash != after.hash,
        "revision": before.revision > after.revision,  # only a higher one begins an epoch
    }
    return [key for key, value in differs.items() if value]


def _weights(experiment: Experiment) -> list[tuple[str, object]]:
    """Groups and weights in their order, which is part of the split."""
    return [(name, group.weight) for name, group in experiment.groups.items()]
