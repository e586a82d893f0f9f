"""The life of experiments: the table of steps, and what another config makes of those that are there."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.store.encoding import from_json, to_json
from gateway.core.experiment_reload import adopt, begin, conflicts
from gateway.core.experiments import (
    MOST_EXPERIMENTS,
    STEPS,
    ExperimentRefused,
    Fault,
    control_wins,
    create,
    define,
    served,
    take,
)
from gateway.model.config import Config
from gateway.model.lifecycle import Action, Experiment, Experiments, Origin, Status
from tests.support.configs import load_text
from tests.support.experiments import experiment_config, halves

AT = 1_800_000_000.0


def config(folder: Path, **written: Any) -> Config:
    """A config with these experiments."""
    return load_text(folder, experiment_config(**written)).config


def one(experiments: Experiments, name: str = "exp") -> Experiment:
    """An experiment that is there."""
    found = experiments.find(name)
    assert found is not None
    return found


def by_hand(experiments: Experiments, loaded: Config, name: str = "mine") -> Experiments:
    """With a draft made by the API, on the route default."""
    written = load_like(loaded)
    return create(experiments, define(name, written, ("default",)), loaded, AT)


def load_like(loaded: Config) -> Any:
    """Any experiment of the grammar, for its groups."""
    return next(iter(loaded.deployment.experiments.values()))


@pytest.mark.parametrize(("status", "action"), list(product(Status, Action)))
def test_every_pair_of_status_and_step_does_what_the_table_says(
    tmp_path: Path, status: Status, action: Action
) -> None:
    """A pair that is there leads to its status; one that is missing is refused and changes nothing."""
    experiments = begin(config(tmp_path, exp=halves(enabled=False)))
    path = {
        Status.DRAFT: [],
        Status.RUNNING: [Action.START],
        Status.PAUSED: [Action.START, Action.PAUSE],
        Status.CONCLUDED: [Action.START, Action.CONCLUDE],
    }
    for step in path[status]:
        experiments, _ = take(experiments, "exp", step, AT, winner="control")
    target = STEPS[status].get(action)
    if target is None:
        with pytest.raises(ExperimentRefused) as refused:
            take(experiments, "exp", action, AT, winner="treatment")
        assert refused.value.fault is Fault.NOT_NOW
    else:
        after, change = take(experiments, "exp", action, AT, winner="treatment")
        assert (one(after).status, change.before, change.after) == (target, status, target)
        assert after.version == experiments.version + 1


def test_what_the_config_enables_runs_from_the_first_load(tmp_path: Path) -> None:
    """Enabled and on a route: running, in its first epoch; else a draft."""
    experiments, changes = adopt(
        Experiments(), config(tmp_path, exp=halves(), off=halves(route=None, enabled=False)), AT
    )
    exp, off = one(experiments), one(experiments, "off")
    assert (exp.status, exp.started_at, [epoch.number for epoch in exp.epochs]) == (Status.RUNNING, AT, [1])
    assert (off.status, off.started_at, off.epochs) == (Status.DRAFT, None, ())
    assert [(change.id, change.before, change.after) for change in changes] == [("exp", None, Status.RUNNING)]


def test_edits_that_move_nobody_are_noted(tmp_path: Path) -> None:
    """Another success metric after a look at the results is allowed, and nobody can say it was not so."""
    experiments = begin(config(tmp_path, exp=halves(duration="30d")))
    groups = {"control": {"weight": 50}, "treatment": {"weight": 50, "configuration": {"model": "large"}}}
    later = halves(duration="10d", groups=groups, success_metrics=["cost_per_request"], name="Another")
    after, (change,) = adopt(experiments, config(tmp_path, exp=later), AT)
    assert (change.before, change.after) == (Status.RUNNING, Status.RUNNING)
    assert change.reason == "changed while it is running: groups.treatment, success_metrics, duration"
    assert len(one(after).epochs) == 1
    renamed = halves(duration="30d", name="A name and no more")
    assert adopt(experiments, config(tmp_path, exp=renamed), AT)[1] == ()


def test_the_same_config_again_changes_nothing(tmp_path: Path) -> None:
    """Neither a restart nor a reload touches what an operator did."""
    loaded = config(tmp_path, exp=halves())
    for steps in ([], [Action.PAUSE], [Action.CONCLUDE]):
        experiments = begin(loaded)
        for step in steps:
            experiments, _ = take(experiments, "exp", step, AT, winner="treatment")
        assert adopt(experiments, loaded, AT + 9) == (experiments, ())


def test_one_that_is_taken_out_while_it_runs_ends_without_a_winner(tmp_path: Path) -> None:
    """Its route goes on as if it had never been; its life stays to be read."""
    experiments, changes = adopt(begin(config(tmp_path, exp=halves())), config(tmp_path), AT)
    assert (one(experiments).status, one(experiments).winner) == (Status.CONCLUDED, None)
    assert served(experiments) == {}
    assert [change.after for change in changes] == [Status.CONCLUDED]


def test_a_draft_of_the_config_goes_with_it(tmp_path: Path) -> None:
    """What never ran leaves nothing behind."""
    experiments, _ = adopt(begin(config(tmp_path, exp=halves(enabled=False))), config(tmp_path), AT)
    assert experiments.all == ()


def test_enabled_is_followed_when_it_changes_and_only_then(tmp_path: Path) -> None:
    """Switched off it pauses, switched on it goes on; what an operator paused stays so."""
    on, off = config(tmp_path, exp=halves()), config(tmp_path, exp=halves(enabled=False))
    experiments, _ = adopt(begin(on), off, AT)
    assert one(experiments).status is Status.PAUSED
    experiments, _ = adopt(experiments, on, AT + 10)
    assert one(experiments).status is Status.RUNNING
    assert one(experiments).seconds_run(AT + 15) == one(begin(on)).seconds_run(AT) + 5
    experiments, _ = take(experiments, "exp", Action.PAUSE, AT + 20)
    assert one(adopt(experiments, on, AT + 30)[0]).status is Status.PAUSED


def test_a_raised_revision_begins_a_new_epoch(tmp_path: Path) -> None:
    """With other weights or the same; it goes on running, and begins anew where it was concluded."""
    weights = {"control": {"weight": 20}, "treatment": {"weight": 80}}
    later = config(tmp_path, exp=halves(groups=weights, revision=2))
    running = begin(config(tmp_path, exp=halves()))
    experiments, changes = adopt(running, later, AT)
    assert (one(experiments).status, len(one(experiments).epochs)) == (Status.RUNNING, 2)
    assert changes[0].reason == "epoch 2: the users are dealt anew"
    concluded, _ = take(running, "exp", Action.CONCLUDE, AT, winner="treatment")
    experiments, _ = adopt(concluded, later, AT)
    assert (one(experiments).status, one(experiments).winner) == (Status.RUNNING, None)
    assert [epoch.number for epoch in one(experiments).epochs] == [2]
    assert (one(experiments).started_at, one(experiments).seconds_run(AT + 5)) == (AT, 5)


def test_a_concluded_one_keeps_its_groups_and_its_winner(tmp_path: Path) -> None:
    """Edits of the file move nobody once there is a winner."""
    concluded, _ = take(begin(config(tmp_path, exp=halves())), "exp", Action.CONCLUDE, AT, winner="treatment")
    edited = config(tmp_path, exp=halves(groups={"control": {"weight": 1}, "other": {"weight": 2}}))
    experiments, _ = adopt(concluded, edited, AT)
    assert served(experiments)["default"].winner == "treatment"
    assert served(experiments) == served(concluded)


def test_one_experiment_a_route(tmp_path: Path) -> None:
    """A second one on the same route is refused, by name; on another route it may run."""
    loaded = config(tmp_path, routes=["default", "chat"], exp=halves(), other=halves(route="chat"))
    experiments = by_hand(begin(loaded), loaded)
    assert one(experiments, "other").status is Status.RUNNING
    with pytest.raises(ExperimentRefused, match="exp is running on the route default: conclude it first"):
        take(experiments, "mine", Action.START, AT)
    experiments, _ = take(experiments, "exp", Action.CONCLUDE, AT, winner="treatment")
    assert served(experiments)["default"].definition.id == "exp"
    experiments, _ = take(experiments, "mine", Action.START, AT)
    assert served(experiments)["default"].definition.id == "mine"


def test_the_oldest_that_nobody_is_served_by_give_way(tmp_path: Path) -> None:
    """After hundreds of experiments on a route another one can be made; the last winner goes on serving."""
    loaded = config(tmp_path, routes=["default", "chat"], exp=halves(), kept=halves(route="chat"))
    experiments = begin(loaded)
    for name in ("exp", "kept"):
        experiments, _ = take(experiments, name, Action.CONCLUDE, AT, winner="treatment")
    for number in range(MOST_EXPERIMENTS + 1):
        experiments = by_hand(experiments, loaded, f"e{number}")
        experiments, _ = take(experiments, f"e{number}", Action.START, AT + number)
        experiments, _ = take(experiments, f"e{number}", Action.CONCLUDE, AT + number, winner="treatment")
    names = {experiment.id for experiment in experiments.all}
    assert len(names) == MOST_EXPERIMENTS
    assert names.issuperset(("exp", "kept", f"e{MOST_EXPERIMENTS}"))
    assert names.isdisjoint(("e0", "e1", "e2"))
    assert {route: one.definition.id for route, one in served(experiments).items()} == {
        "default": f"e{MOST_EXPERIMENTS}",
        "chat": "kept",
    }


def test_there_is_an_end_to_experiments_that_are_not_concluded(tmp_path: Path) -> None:
    """Drafts do not give way: somebody may start them."""
    loaded = config(tmp_path)
    experiments = Experiments()
    written = load_like(config(tmp_path, exp=halves()))
    for number in range(MOST_EXPERIMENTS):
        experiments = create(experiments, define(f"e{number}", written, ("default",)), loaded, AT)
    with pytest.raises(ExperimentRefused, match="conclude or delete some first") as refused:
        create(experiments, define("more", written, ("default",)), loaded, AT)
    assert refused.value.fault is Fault.TOO_MANY


def test_creating(tmp_path: Path) -> None:
    """Ids that are taken, routes and upstreams that are not there: refused, each with its reason."""
    loaded = config(tmp_path, exp=halves())
    written = load_like(loaded)
    experiments = by_hand(begin(loaded), loaded)
    assert one(experiments, "mine").origin is Origin.API
    for name, routes, fault in (
        ("exp", ("default",), Fault.EXISTS),
        ("mine", ("default",), Fault.EXISTS),
        ("new", ("nowhere",), Fault.UNKNOWN_NAME),
        ("new", (), Fault.UNKNOWN_NAME),
    ):
        with pytest.raises(ExperimentRefused) as refused:
            create(experiments, define(name, written, routes), loaded, AT)
        assert refused.value.fault is fault
    unused = begin(config(tmp_path, exp=halves(route="elsewhere")))
    with pytest.raises(ExperimentRefused, match="no route names exp"):
        take(unused, "exp", Action.START, AT)


def test_an_unknown_winner_is_refused(tmp_path: Path) -> None:
    """With the groups that there are."""
    experiments = begin(config(tmp_path, exp=halves()))
    for winner in ("nobody", None):
        with pytest.raises(ExperimentRefused, match="expected one of control, treatment"):
            take(experiments, "exp", Action.CONCLUDE, AT, winner=winner)


def test_a_conclusion_can_be_corrected(tmp_path: Path) -> None:
    """Another winner may be named later; the same again is refused."""
    experiments, _ = take(
        begin(config(tmp_path, exp=halves())), "exp", Action.CONCLUDE, AT, winner="treatment"
    )
    with pytest.raises(ExperimentRefused, match="treatment won"):
        take(experiments, "exp", Action.CONCLUDE, AT, winner="treatment")
    experiments, _ = take(experiments, "exp", Action.CONCLUDE, AT, winner="control")
    assert one(experiments).winner == "control"


def test_whether_control_wins(tmp_path: Path) -> None:
    """What counts is the upstream that serves the winner."""
    loaded = config(
        tmp_path,
        exp=halves(
            groups={
                "control": {"weight": 1},
                "treatment": {"weight": 1},
                "same": {"weight": 1, "upstream": "traditional"},
            }
        ),
    )
    for winner, wins in (("control", True), ("same", True), ("treatment", False)):
        concluded, _ = take(begin(loaded), "exp", Action.CONCLUDE, AT, winner=winner)
        assert control_wins(one(concluded), loaded) is wins


def test_a_reload_beside_experiments_made_by_hand(tmp_path: Path) -> None:
    """What would take the ground from one that runs is refused with the way out; drafts stand in no way."""
    loaded = config(tmp_path, other=halves(route=None, enabled=False))
    draft = by_hand(begin(loaded), loaded)
    running, _ = take(draft, "mine", Action.START, AT)
    gone = config(tmp_path, routes=["chat"])
    (conflict,) = conflicts(running, gone)
    assert conflict == "routes: default is gone, where mine is running; conclude mine first"
    (conflict,) = conflicts(running, config(tmp_path, exp=halves()))
    assert "exp would begin on the route default, where mine is running" in conflict
    (conflict,) = conflicts(running, config(tmp_path, mine=halves(seed="other")))
    assert "weights, seed or hash differ" in conflict
    assert conflicts(running, config(tmp_path, mine=halves())) == ()
    assert conflicts(draft, gone) == ()
    # At the start there is nobody to refuse it to.
    assert one(adopt(running, gone, AT)[0], "mine").status is Status.CONCLUDED


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(Action), st.sampled_from(["exp", "mine"])),
            st.sampled_from(["with", "without", "off"]),
        ),
        max_size=12,
    )
)
def test_whatever_happens_one_experiment_deals_on_a_route_and_everything_can_be_stored(
    steps: list[Any],
) -> None:
    """Any order of steps and reloads: never two on a route, versions that only grow, no state is lost."""
    configs = CONFIGS
    experiments = by_hand(begin(configs["with"]), configs["with"])
    for number, step in enumerate(steps):
        before = experiments
        if isinstance(step, str):
            experiments, _ = adopt(experiments, configs[step], AT + number)
        else:
            action, name = step
            try:
                experiments, _ = take(experiments, name, action, AT + number, winner="control")
            except ExperimentRefused:
                assert experiments is before
        dealing = [found for found in experiments.all if found.status.assigns and found.definition.routes]
        assert len(dealing) <= 1
        assert experiments.version >= before.version
        assert from_json(Experiments, to_json(experiments)) == experiments
        for found in experiments.all:
            numbers = [epoch.number for epoch in found.epochs]
            assert numbers == [n for n, _ in enumerate(numbers, min(numbers, default=1))]
            assert (found.running_since is not None) is (found.status is Status.RUNNING)


def _configs() -> dict[str, Config]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return {
            "with": config(Path(folder), exp=halves()),
            "without": config(Path(folder)),
            "off": config(Path(folder), exp=halves(enabled=False, revision=2)),
        }


CONFIGS = _configs()
