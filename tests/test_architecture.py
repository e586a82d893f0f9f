"""The walls of ARCHITECTURE.md, held by walking every import statement, also those inside functions."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gateway"
PURE = ("model", "core", "wire")
INPUT_OUTPUT = frozenset(
    (
        "aiohttp",
        "asyncio",
        "http",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "threading",
        "time",
        "urllib.request",
        "uvloop",
    )
)
WORKER_DOES_WITHOUT = ("aiohttp", "prometheus_client", "pydantic", "rich", "sqlite3", "yaml")
SUPERVISOR_DOES_WITHOUT = (*WORKER_DOES_WITHOUT, "asyncio", "httptools", "uvloop", "xxhash")


def module_name(path: Path) -> str:
    """The dotted name of a source file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its name."""
    return {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports_of(module: str) -> tuple[str, ...]:
    """Every module that a module names in an import, the package's own as far as they exist."""
    return tuple(_imports_within(modules()[module], module))


def _imports_within(tree: ast.Module, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


def room(module: str) -> str:
    """The package below `gateway` that a module lives in."""
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize(("one", "other"), [("proxy", "control"), ("control", "proxy")])
def test_the_planes_do_not_know_each_other(one: str, other: str) -> None:
    """No module of one plane imports a module of the other."""
    seen = [(m, i) for m in modules() if room(m) == one for i in imports_of(m) if room(i) == other]
    assert seen == []


@pytest.mark.parametrize("pure", PURE)
def test_the_pure_rooms_import_no_input_or_output(pure: str) -> None:
    """`model`, `core` and `wire` import neither I/O nor clocks nor randomness, nor rooms that do."""
    for module in (m for m in modules() if room(m) == pure):
        for imported in imports_of(module):
            assert imported not in INPUT_OUTPUT, f"{module} imports {imported}"
            if imported.startswith("gateway."):
                assert room(imported) in PURE, f"{module} imports {imported}"


def test_imports_make_no_cycle() -> None:
    """The module graph has an order, type-checking imports and imports in functions included."""
    graph = {m: {i for i in imports_of(m) if i in modules() and i != m} for m in modules()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [("gateway.app.worker", WORKER_DOES_WITHOUT), ("gateway.supervisor", SUPERVISOR_DOES_WITHOUT)],
)
@pytest.mark.socket
def test_small_processes_stay_small(module: str, forbidden: tuple[str, ...]) -> None:
    """What a worker and the supervisor load leaves out the libraries that only control needs."""
    program = f"import sys, {module}; print(*sorted(set({forbidden!r}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
