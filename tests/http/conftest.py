"""Rigs that a whole test module shares, and the oracles that look at them after every test."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import pytest

from tests.support.dataplane import Rig


class Place(enum.Enum):
    """Where the gateway sends everybody: an invariant of all cases is that this changes no answer."""

    CONTROL = "control"
    TREATMENT = "treatment"
    LATCHED = "latched"


@pytest.fixture(scope="package")  # other tests damage what these workers stand on
def rigs() -> Iterator[dict[Place, Rig]]:
    """One running data plane for each place."""
    with (
        Rig() as control,
        Rig(percentage=100) as treatment,
        Rig(percentage=100, latched=True) as latched,
    ):
        yield {Place.CONTROL: control, Place.TREATMENT: treatment, Place.LATCHED: latched}


@pytest.fixture
def rig(rigs: dict[Place, Rig]) -> Iterator[Rig]:
    """The data plane that sends everybody to control, with the liveness oracle behind the test."""
    yield rigs[Place.CONTROL]
    rigs[Place.CONTROL].check_alive()
