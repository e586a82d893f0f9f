"""The text that asks for a fault."""

import pytest

from gateway.demo.faults import HEALTHY, Behaviour, Fault, FaultKind, parse_fault
from gateway.demo.picture import active_faults
from gateway.model.snapshot import Arm


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("treatment.errors=0.3@20s", Fault(Arm.TREATMENT, FaultKind.ERRORS, 0.3, 20.0)),
        ("treatment.latency=2x@20s", Fault(Arm.TREATMENT, FaultKind.LATENCY, 2.0, 20.0)),
        ("control.latency=1.5@1m30s", Fault(Arm.CONTROL, FaultKind.LATENCY, 1.5, 90.0)),
        ("control.hang=100%@500ms", Fault(Arm.CONTROL, FaultKind.HANG, 1.0, 0.5)),
        ("treatment.reset=.5", Fault(Arm.TREATMENT, FaultKind.RESET, 0.5, 0.0)),
        ("treatment.truncate=0@0s", Fault(Arm.TREATMENT, FaultKind.TRUNCATE, 0.0, 0.0)),
    ],
)
def test_a_fault_is_an_arm_a_kind_a_value_and_a_time(text: str, fault: Fault) -> None:
    """Shares may be percentages, factors may end in x, and without a time it is the start."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "for example treatment.errors=0.3@20s"),
        ("treatment.errors", "expected ARM.KIND=VALUE@TIME"),
        ("treatment.errors=0.3@20s@30s", "expected ARM.KIND=VALUE@TIME"),
        ("dspy.errors=0.3@20s", "no arm 'dspy'; expected control or treatment"),
        ("treatment.crash=1@20s", "expected errors, latency, hang, reset or truncate"),
        ("treatment=1@20s", "no fault ''"),
        ("treatment.errors=1.5@20s", "'1.5' is not a share; expected 0 to 1"),
        ("treatment.errors=-0.5@20s", "is not a share"),
        ("treatment.errors=nan@20s", "is not a share"),
        ("treatment.errors=2x@20s", "is not a share"),
        ("treatment.latency=x@20s", "'x' is not a factor"),
        ("treatment.latency=0x@20s", "more than 0"),
        ("treatment.latency=101x@20s", "up to 100"),
        ("treatment.errors=0.3@20", "expected a time like 20s"),
        ("treatment.errors=0.3@", "expected a time like 20s"),
    ],
)
def test_a_wrong_fault_is_refused_with_what_was_expected(text: str, hint: str) -> None:
    """The message quotes what was written and says what would do."""
    with pytest.raises(ValueError, match="expected") as refusal:
        parse_fault(text)
    assert repr(text) in str(refusal.value)
    assert hint in str(refusal.value)


def test_a_later_fault_of_a_kind_replaces_the_earlier_one() -> None:
    """Kinds are independent of each other, and a share of zero heals."""
    failing = HEALTHY.with_fault(parse_fault("treatment.errors=0.3@1s"))
    slow_too = failing.with_fault(parse_fault("treatment.latency=2x@2s"))
    assert slow_too == Behaviour(errors=0.3, latency=2.0)
    assert slow_too.with_fault(parse_fault("treatment.errors=0@3s")) == Behaviour(latency=2.0)


def test_what_is_wrong_now_is_told_as_faults() -> None:
    """Only what differs from a healthy pipeline is told, in the words of the command line."""
    behaviours = {Arm.CONTROL: HEALTHY, Arm.TREATMENT: Behaviour(errors=0.3, latency=2.0)}
    assert [str(fault) for fault in active_faults(behaviours)] == [
        "treatment errors 30%",
        "treatment latency 2x",
    ]
