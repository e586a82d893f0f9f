"""How many examples a property is tried with: few at every save, many before a change is taken.

`--hypothesis-profile quick` is what `make test-unit` asks for. A property that needs more or fewer
examples than others says so by `examples`, and both profiles keep the proportion.
"""

from __future__ import annotations

from hypothesis import settings

THOROUGH, QUICK = 100, 10
"""Examples of a property that asks for no number of its own."""
FEWEST = 3
"""Examples that are left of any property."""


def register_profiles() -> None:
    """Make both profiles known and take the thorough one; the command line may choose the other.

    Neither has a deadline: how long an example takes says more of the machine than of the code.
    """
    settings.register_profile("thorough", deadline=None, max_examples=THOROUGH)
    settings.register_profile("quick", deadline=None, max_examples=QUICK, database=None)
    settings.load_profile("thorough")


def examples(count: int) -> settings:
    """Try a property with so many examples in the thorough profile, and as much fewer in the quick one."""
    profile = settings.default
    assert profile is not None
    return settings(max_examples=max(FEWEST, count * profile.max_examples // THOROUGH))
