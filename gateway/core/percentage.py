"""The percentage of users that treatment may serve now: the one number that workers get from the rollout.

A pure function of the state and the rules. Only here do phase, ceiling, trial, drain and latch meet.
"""

from __future__ import annotations

from fractions import Fraction

from gateway.model.rollout import Rollout, Rules


def effective_percentage(state: Rollout, rules: Rules) -> Fraction:
    """The percentage in effect: the least of phase, ceiling and trial, less in a drain, 0 if latched.

    A phase that the rules do not have enrols nobody.
    """
    phase = rules.find(state.phase)
    if phase is None or state.latch is not None:
        return Fraction(0)
    share = phase.share if state.ceiling is None else min(phase.share, state.ceiling)
    if state.trial is not None:
        share = min(share, state.trial.cap)
    if state.drain is None:
        return share
    return share * Fraction(state.drain.steps - state.drain.step, state.drain.steps)


def percentage_after_release(state: Rollout, rules: Rules) -> Fraction:
    """What a release would come back with: at most the percentage that was rolled back from."""
    phase = rules.find(state.phase)
    if phase is None:
        return Fraction(0)
    failed = state.rolled_back_from
    return phase.share if failed is None else min(phase.share, failed.percentage)
