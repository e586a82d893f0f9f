"""What holds for every test: its part of the suite, how many examples are tried, and a second try.

And real gateways for whoever asks: made in the test's own directory, and ended with it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import examples, parts
from tests.support.processes import Gateway, pipelines

# What collecting makes is there to stay: looking through it again and again took a fifth of all time.
gc.disable()
examples.register_profiles()
parts.watch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes get a second try: on a busy machine another one may take their time.

    The summary counts it ("1 rerun"), and shows what went wrong at first. Twice is a failure.
    """
    for item in items:
        if item.get_closest_marker("process") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why a test needed its second try: each is a defect, of the test or of what it tests."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"first try of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, among what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """What a unit test's fixtures do, it does."""
    with parts.kept_to_its_part(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A unit test keeps to its part."""
    with parts.kept_to_its_part(item):
        yield


@pytest.fixture(scope="session")
def upstreams() -> Iterator[dict[str, int]]:
    """Two sample pipelines for all tests."""
    with pipelines() as ports:
        yield ports


@pytest.fixture
def gateways(tmp_path: Path, upstreams: dict[str, int]) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways in the test's own directory (one directory unless told otherwise), and ends them."""
    made: list[Gateway] = []

    def make(name: str = "one", **options: Any) -> Gateway:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        made.append(Gateway(directory, **{"upstreams": upstreams, **options}))
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def running(gateways: Callable[..., Gateway]) -> Gateway:
    """A gateway with two workers that serves."""
    gateway = gateways()
    gateway.start()
    return gateway
