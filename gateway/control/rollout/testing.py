"""Automated tests of a gate: what is run, and what its result means for the test.

It does not know when a test is due, nor what its result means for the gate.
"""

from __future__ import annotations

from pathlib import Path

from gateway.control.actions import Action, Ran, carry_out
from gateway.model.gates import AutomatedTest


async def run_test(gate: AutomatedTest, folder: Path) -> Ran:
    """Run a gate's test to its end, at latest at its timeout; a command runs in `folder`."""
    return await carry_out(Action(gate.command, gate.http, gate.timeout), folder)
