"""What a valid config means: defaults, merging, the ladder of phases, groups, warnings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from gateway.core.exposure import treatment_percentage
from gateway.model.config import Config
from gateway.model.metrics import Metric
from gateway.model.phases import DEFAULT_PHASES, MetricsThreshold
from gateway.model.snapshot import SourceKind
from gateway.model.units import Comparison, HttpCall, Operator, Transition
from tests.support.configs import complete, load_text


def config(folder: Path, snippet: str) -> Config:
    """The config of a snippet."""
    return load_text(folder, complete(snippet)).config


def warnings(folder: Path, snippet: str) -> str:
    """The warnings of a snippet, a line each, without the one that the default ladder causes."""
    loaded = load_text(folder, complete(snippet))
    return "\n".join(str(each) for each in loaded.warnings if "staging enrols" not in each.message)


# --- phases


def test_the_five_phases_are_the_strategys(tmp_path: Path) -> None:
    """Without a word about phases they are those of the strategy's PhaseConfig."""
    deployment = config(tmp_path, "").deployment
    assert deployment.ladder == ("development", "staging", "canary", "limited_production", "full_production")
    assert deployment.initial_phase == "development"
    table = {
        name: (
            float(phase.user_percentage),
            phase.feature_flags,
            phase.monitoring_level.value,
            phase.rollback_threshold.error_rate,
            phase.rollback_threshold.performance_degradation,
            phase.dspy_enabled,
        )
        for name, phase in deployment.phases.items()
    }
    assert table == {
        "development": (100, ("all_features",), "debug", 0.1, 0.3, True),
        "staging": (100, ("core_features",), "info", 0.05, 0.2, True),
        "canary": (1, ("core_features",), "warn", 0.02, 0.15, True),
        "limited_production": (10, ("core_features",), "warn", 0.01, 0.1, True),
        "full_production": (100, ("core_features",), "error", 0.005, 0.05, True),
    }


def test_phases_merge_by_key(tmp_path: Path) -> None:
    """A phase keeps the defaults that are not written, down to the single limit."""
    phases = config(
        tmp_path,
        "deployment: {phases: {canary: {user_percentage: 2.5, rollback_threshold: {error_rate: 0.03}}}}",
    ).deployment.phases
    assert list(phases) == list(DEFAULT_PHASES)
    assert phases["canary"].user_percentage == Fraction(5, 2)
    assert phases["canary"].rollback_threshold.by_metric() == {
        Metric.ERROR_RATE: 0.03,
        Metric.PERFORMANCE_DEGRADATION: 0.15,
    }
    assert phases["limited_production"].user_percentage == 10


def test_null_takes_a_default_limit_away(tmp_path: Path) -> None:
    """A limit that should not be there is written as null."""
    text = "deployment: {phases: {canary: {rollback_threshold: {performance_degradation: null}}}}"
    limits = config(tmp_path, text).deployment.phases["canary"].rollback_threshold
    assert limits.by_metric() == {Metric.ERROR_RATE: 0.02}


def test_the_order_of_writing_does_not_reorder_the_five(tmp_path: Path) -> None:
    """Phases of the strategy stand in its order however the file lists them."""
    text = "deployment: {phases: {full_production: {}, canary: {}}}"
    assert list(config(tmp_path, text).deployment.phases) == list(DEFAULT_PHASES)


CUSTOM = """\
deployment:
  phases:
    pilot: {user_percentage: 5}
    half: {user_percentage: 50}
    everybody: {user_percentage: 100}
"""


def test_phases_of_ones_own_are_the_ladder(tmp_path: Path) -> None:
    """A name that is none of the five makes the ladder what is written, and the first is where it begins."""
    deployment = config(tmp_path, CUSTOM).deployment
    assert deployment.ladder == tuple(deployment.phases) == ("pilot", "half", "everybody")
    assert deployment.initial_phase == "pilot"
    assert deployment.phases["half"].feature_flags == ("core_features",)
    assert (deployment.previous("pilot"), deployment.next("pilot")) == (None, "half")
    assert (deployment.previous("everybody"), deployment.next("everybody")) == ("half", None)


def test_a_ladder_says_the_order(tmp_path: Path) -> None:
    """A written ladder may leave phases out, put new ones between, and is the order."""
    text = """\
deployment:
  ladder: [canary, pilot, full_production]
  phases:
    pilot: {user_percentage: 33.3333}
"""
    deployment = config(tmp_path, text).deployment
    assert list(deployment.phases) == ["canary", "pilot", "full_production"]
    assert deployment.initial_phase == "canary"
    assert deployment.phases["pilot"].user_percentage == Fraction(333333, 10000)
    assert deployment.phases["canary"].rollback_threshold.error_rate == 0.02


def test_a_ladder_may_hold_a_name_like_a_known_one(tmp_path: Path) -> None:
    """`staging2` is a slip without a ladder and a phase with one."""
    text = "deployment: {ladder: [staging2, canary], phases: {staging2: {user_percentage: 100}}}"
    assert config(tmp_path, text).deployment.ladder == ("staging2", "canary")


def test_gates_by_transition(tmp_path: Path) -> None:
    """Blanks around the arrow make no difference; each gate has its defaults."""
    text = """\
deployment:
  gates:
    staging->canary:
      - {type: automated_test, http: http://127.0.0.1:1/smoke}
      - {type: metrics_threshold, thresholds: {user_satisfaction: >= 0.9, response_time: < 2s}}
"""
    gates = config(tmp_path, text).deployment.gates[Transition("staging", "canary")]
    test, threshold = gates
    assert getattr(test, "http", None) == HttpCall("GET", "http://127.0.0.1:1/smoke")
    assert isinstance(threshold, MetricsThreshold)
    assert threshold.thresholds.by_metric() == {
        Metric.RESPONSE_TIME: Comparison(Operator.LESS, 2.0),
        Metric.USER_SATISFACTION: Comparison(Operator.AT_LEAST, 0.9),
    }
    assert (threshold.minimum_samples, threshold.window) == (300, 3600)


# --- experiments


def test_groups_without_a_word_about_their_side(tmp_path: Path) -> None:
    """The group `treatment` is the route's treatment, and an unknown one falls to control."""
    groups = "{control: {weight: 1}, treatment: {weight: 1}, b: {weight: 0}}"
    text = f"deployment: {{experiments: {{x: {{groups: {groups}}}}}}}"
    found = config(tmp_path, text).deployment.experiments["x"].groups
    assert {name: group.configuration.dspy_enabled for name, group in found.items()} == {
        "control": False,
        "treatment": True,
        "b": False,
    }


def test_a_group_with_an_upstream_has_no_side_of_its_own(tmp_path: Path) -> None:
    """The upstream decides."""
    text = "deployment: {experiments: {x: {groups: {a: {weight: 1, upstream: dspy}}}}}"
    group = config(tmp_path, text).deployment.experiments["x"].groups["a"]
    assert (group.upstream, group.configuration.dspy_enabled) == ("dspy", None)


def test_a_groups_configuration_holds_anything_single(tmp_path: Path) -> None:
    """Text, numbers and truth values go to the pipelines as they are."""
    text = (
        "deployment: {experiments: {x: {groups: {a: "
        "{weight: 1, configuration: {dspy_enabled: true, model: small, depth: 3, heat: 0.5, cot: false}}}}}}"
    )
    group = config(tmp_path, text).deployment.experiments["x"].groups["a"]
    assert group.configuration.model_dump() == {
        "dspy_enabled": True,
        "model": "small",
        "depth": 3,
        "heat": 0.5,
        "cot": False,
    }


def test_success_metrics_know_their_direction(tmp_path: Path) -> None:
    """The gateway's own metrics by name; those of one's own with a direction."""
    text = """\
deployment:
  experiments:
    x:
      groups: {a: {weight: 1}}
      success_metrics: [accuracy, cost_per_request, {name: tickets, direction: down, cap: 10}]
"""
    metrics = config(tmp_path, text).deployment.experiments["x"].success_metrics
    assert [(each.name, each.direction.value, each.cap) for each in metrics] == [
        ("accuracy", "up", None),
        ("cost_per_request", "down", None),
        ("tickets", "down", 10.0),
    ]


# --- what else is written in a way of its own


def test_names_and_ids_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    """A user id of digits stays as it was written."""
    users = config(
        tmp_path, "overrides: {users: {treatment: [007, 1e3, 1.50], control: [12]}}"
    ).overrides.users
    assert users.treatment == ("007", "1e3", "1.50")
    assert users.control == ("12",)


def test_header_sources_are_in_lower_case(tmp_path: Path) -> None:
    """Header names know no case; cookies and queries do."""
    sources = config(
        tmp_path, "identity: {sources: [header:X-User, cookie:Uid, query:User]}"
    ).identity.sources
    assert [(each.kind, each.name) for each in sources] == [
        (SourceKind.HEADER, "x-user"),
        (SourceKind.COOKIE, "Uid"),
        (SourceKind.QUERY, "User"),
    ]


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        ("http://dspy:8000", "http://dspy:8000"),
        ("http://dspy:8000/", "http://dspy:8000"),
        ("http://dspy", "http://dspy:80"),
        ("'http://[::1]'", "http://[::1]:80"),
        ("'http://[::1]:9'", "http://[::1]:9"),
    ],
)
def test_endpoints_have_one_spelling(tmp_path: Path, written: str, endpoint: str) -> None:
    """A port is always there, and no slash behind it."""
    text = f"upstreams: {{traditional: {{endpoints: [{written}]}}, dspy: {{endpoints: ['unix:d.sock']}}}}"
    upstreams = config(tmp_path, text).upstreams
    assert upstreams["traditional"].endpoints == (endpoint,)
    assert upstreams["dspy"].endpoints == (f"unix:{tmp_path}/d.sock",)


def test_what_is_off_unless_written(tmp_path: Path) -> None:
    """Health checks and outlier detection begin with being written, if only as {}."""
    text = """\
upstreams:
  traditional: {endpoints: [http://h:1]}
  dspy: {endpoints: [http://h:2], health_check: {}}
"""
    upstreams = config(tmp_path, text).upstreams
    assert upstreams["traditional"].health_check is None
    assert upstreams["dspy"].health_check is not None
    assert upstreams["dspy"].health_check.interval == 5
    assert upstreams["dspy"].outlier_detection is None


def test_alerts_merge_by_metric(tmp_path: Path) -> None:
    """A metric that is written leaves the others as they are; null takes one away."""
    text = (
        "deployment: {monitoring: {alerts: {error_rate: {warning: 0.5, critical: 0.6}, response_time: null}}}"
    )
    alerts = config(tmp_path, text).deployment.monitoring.alerts.by_metric()
    assert {metric.value: (each.warning, each.critical) for metric, each in alerts.items()} == {
        "error_rate": (0.5, 0.6),
        "performance_degradation": (0.1, 0.2),
    }


def test_words_that_stand_for_none(tmp_path: Path) -> None:
    """`auto` workers and `finish`ing streams are None in the model."""
    loaded = config(tmp_path, "listen: {workers: auto}\ndeployment: {rollback: {open_streams: finish}}")
    assert loaded.listen.workers is None
    assert loaded.deployment.rollback.open_streams is None
    assert (
        config(tmp_path, "deployment: {rollback: {open_streams: 30s}}").deployment.rollback.open_streams == 30
    )


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    """What was loaded stays what was loaded."""
    loaded = config(tmp_path, "")
    with pytest.raises(ValueError, match="frozen"):
        loaded.listen = loaded.listen


# --- exposure


@pytest.mark.parametrize(
    ("groups", "percentage"),
    [
        ("control: {weight: 50}, treatment: {weight: 50}", Fraction(1, 2)),
        ("control: {weight: 1}, treatment: {weight: 1}, b: {weight: 1}", Fraction(1, 3)),
        ("control: {weight: 0}, treatment: {weight: 1}", Fraction(1)),
        ("a: {weight: 1, upstream: traditional}, b: {weight: 3, upstream: dspy}", Fraction(3, 4)),
    ],
)
def test_treatments_real_share(tmp_path: Path, groups: str, percentage: Fraction) -> None:
    """The phase's percentage times the weight of the groups that control does not serve."""
    text = f"""\
routes: [{{name: r, control: traditional, treatment: dspy, experiment: x}}]
deployment:
  phases: {{limited_production: {{dspy_enabled: false}}}}
  experiments: {{x: {{groups: {{{groups}}}}}}}
"""
    loaded = config(tmp_path, text)
    (route,) = loaded.routes
    assert treatment_percentage(loaded, "canary", route) == percentage
    assert treatment_percentage(loaded, "full_production", route) == 100 * percentage
    assert treatment_percentage(loaded, "limited_production", route) == 0


def test_without_a_running_experiment_all_the_enrolled_get_treatment(tmp_path: Path) -> None:
    """An experiment that is switched off, or none, leaves the phase's percentage."""
    text = """\
routes:
  - {name: a, match: {path_prefix: /a}, control: traditional, treatment: dspy, experiment: x}
  - {name: b, match: {path_prefix: /b}, control: traditional, treatment: dspy}
  - {name: c, control: traditional, treatment: traditional}
deployment: {experiments: {x: {enabled: false, groups: {control: {weight: 1}, treatment: {weight: 1}}}}}
"""
    loaded = config(tmp_path, text)
    assert [treatment_percentage(loaded, "canary", route) for route in loaded.routes] == [1, 1, 0]


# --- warnings


def test_a_phase_that_sends_more_than_the_next_is_warned_of(tmp_path: Path) -> None:
    """The default ladder has one such step; the advice goes to those whom it can still help."""
    (warning,) = load_text(tmp_path, complete("")).warnings
    assert "staging enrols 100 % of the users, more than canary after it (1 %); start at canary" in str(
        warning
    )
    (warning,) = load_text(tmp_path, complete("deployment: {initial_phase: canary}")).warnings
    assert str(warning).endswith("more than canary after it (1 %)")
    text = """\
deployment:
  phases:
    limited_production: {user_percentage: 100}
    full_production: {dspy_enabled: false}
"""
    assert (
        "3:43: deployment.phases.limited_production.user_percentage: limited_production enrols "
        "100 % of the users, more than full_production after it (0 %)"
    ) in warnings(tmp_path, text)


@pytest.mark.parametrize(
    ("snippet", "words"),
    [
        (
            "upstreams: {traditional: {endpoints: [http://h:1]}, dspy: {endpoints: [http://h:2]}, "
            "old: {endpoints: [http://h:3]}}",
            "1:86: upstreams.old: no route and no group names this upstream",
        ),
        (
            "deployment: {experiments: {x: {groups: {a: {weight: 1}}}}}",
            "1:28: deployment.experiments.x: no route names this experiment: nobody takes part in it",
        ),
        (
            "deployment: {experiments: {x: {groups: {a: {weight: 1}}}}}",
            "the group a says neither dspy_enabled nor upstream: control serves it",
        ),
        (
            "deployment: {experiments: {x: {groups: {a: {weight: 1}, b: {weight: 0}}}}}",
            "1:32: deployment.experiments.x.groups: only one group has users: there is nothing to compare",
        ),
        (
            "routes:\n"
            "  - {name: all, control: traditional, treatment: dspy}\n"
            "  - {name: api, match: {path_prefix: /api}, control: traditional, treatment: dspy}",
            "3:5: routes[1]: the route api never matches: all before it takes its requests",
        ),
        (
            "deployment: {rollback: {emergency_contacts: [{team: eng, oncall: true}]}}",
            "eng is on call and has no channel under notifications.contacts: nobody is paged",
        ),
        (
            "deployment: {gates: {staging -> canary: [{type: manual_approval, approvals: 2}]}}",
            "2 approvals need as many named operators, and admin.tokens names 0: this gate cannot pass",
        ),
        (
            "upstreams: {traditional: {endpoints: [http://h:1]}, "
            "dspy: {endpoints: [http://h:2], health_check: {timeout: 10s}}}",
            "a check may take 10s, longer than the interval of 5s",
        ),
        (
            "deployment: {rollback: {hooks: [{http: 'POST http://h/?token=${TOKEN}'}]}}",
            "${TOKEN} is not expanded here: only the urls of channels are",
        ),
        (
            'notifications: {channels: {a: {type: slack, url: "http://h/", severities: []}}}',
            "1:28: notifications.channels.a: a receives nothing: it names no severity, and is no emergency",
        ),
        (
            'notifications: {channels: {a: {type: slack, url: "http://h/"}}, contacts: {enginering: a}}',
            "enginering is not among rollback.emergency_contacts: it is never notified",
        ),
        (
            "deployment: {monitoring: {window: 25h}}",
            "1d1h is longer than what is remembered: alerts and status use the last 1h",
        ),
    ],
)
def test_what_is_odd_is_warned_of(tmp_path: Path, snippet: str, words: str) -> None:
    """Warnings have a place as problems have, and keep nothing from loading."""
    assert words in warnings(tmp_path, snippet)


@pytest.mark.parametrize(
    "snippet",
    [
        "routes:\n"
        "  - {name: a, match: {methods: [POST]}, control: traditional, treatment: dspy}\n"
        "  - {name: b, match: {methods: [POST, PUT]}, control: traditional, treatment: dspy}\n"
        "  - {name: c, match: {headers: {X-A: '1'}}, control: traditional, treatment: dspy}\n"
        "  - {name: d, match: {headers: {X-A: '2'}}, control: traditional, treatment: dspy}\n"
        "  - {name: e, match: {path_prefix: /api}, control: traditional, treatment: dspy}\n"
        "  - {name: f, control: traditional, treatment: dspy}\n",
        "deployment: {rollback: {emergency_contacts: [{team: eng}]}}",
        "deployment: {gates: {staging -> canary: [{type: manual_approval}]}}",
        'notifications: {channels: {a: {type: slack, url: "http://h/"}}}',
        'notifications: {channels: {a: {type: slack, url: "http://h/", severities: []}}, contacts: {e: a}}\n'
        "deployment: {rollback: {emergency_contacts: [{team: e}]}}",
    ],
)
def test_what_is_usual_is_not_warned_of(tmp_path: Path, snippet: str) -> None:
    """A warning that is always there is read by nobody."""
    assert warnings(tmp_path, snippet) == ""
