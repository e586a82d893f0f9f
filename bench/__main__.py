"""`python -m bench`: compare the gateway with its peers and check its figures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from bench import install, plot, report
from bench.lab import open_lab
from bench.measures import TARGETS, Verdict, judge
from bench.processes import BenchError, require_two_cores
from bench.proxies import PROXIES, Proxy
from bench.results import Results
from bench.run import Run
from bench.settings import FULL, QUICK, Settings

RESULTS = Path(__file__).parent / "results" / "latest.json"

PAGE_WIDTH = 110
"""Where the output is no terminal and so has no width."""


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    result.add_argument(
        "--quick", action="store_true", help="one short round: a smoke test, not a measurement"
    )
    result.add_argument("--rounds", type=int, help="interleaved rounds")
    result.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(PROXIES)}")
    result.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the results go")
    result.add_argument("--plot", type=Path, metavar="FILE", help="draw an SVG of the comparison")
    result.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    result.add_argument("--no-install", action="store_true", help="leave out what is not installed")
    return result


def choose(names: str | None) -> list[Proxy]:
    """Give the proxies that were asked for, in the usual order."""
    wanted = set(PROXIES) if names is None else set(names.split(","))
    unknown = wanted - set(PROXIES)
    if unknown:
        raise BenchError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PROXIES)}")
    return [proxy for proxy in PROXIES.values() if proxy.name in wanted]


def measure(proxies: list[Proxy], settings: Settings, console: Console) -> Results:
    """Run, telling the terminal what is going on."""
    start = time.monotonic()

    def tell(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - start:5.0f} s[/]  {line}", highlight=False)

    results = Results()
    for proxy in proxies:
        reason = proxy.missing()
        if reason is not None:
            results.skipped[proxy.name] = reason
    with open_lab() as lab:
        return Run(lab, proxies, settings, tell, results).everything()


def main() -> int:
    """Measure and report. Exit code 0, unless the run itself failed, or a target with `--strict`."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
    settings = QUICK if options.quick else FULL
    if options.rounds is not None:
        settings = dataclasses.replace(settings, rounds=options.rounds)
    try:
        proxies = choose(options.only)
        require_two_cores()
        if not options.no_install:
            install.install()
        results = measure(proxies, settings, console)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    report.show(results, proxies, console)
    document = results.as_json(dataclasses.asdict(settings))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"written: {options.json}", highlight=False)
    if options.plot is not None:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(plot.draw(results, proxies))
        console.print(f"drawn: {options.plot}", highlight=False)
    missed = any(judge(target, results.figure(target)) is Verdict.MISS for target in TARGETS)
    return 1 if options.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
