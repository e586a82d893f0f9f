"""`python -m bench.screenshots`: the pictures of the dashboard in `docs/`, taken of the demo's tour.

Nothing in them is made up: the demo runs, and the pictures are taken as its story goes. It takes two
minutes, Chromium, and the package playwright.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
DESK, PHONE = (1280, 1160), (390, 844)
_PATIENCE = 150.0
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")


@contextmanager
def demo(rate: int) -> Iterator[str]:
    """The tour; the address of its dashboard."""
    command = [sys.executable, "-m", "gateway", "demo", "--scenario", "tour", "--rps", str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://\S+:\d+(?=/?$)", line) if "dashboard" in line else None:
                    yield found[0]
                    break
            else:
                raise SystemExit("the demo did not start")
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def window(browser: Browser, url: str, size: tuple[int, int], scheme: Any) -> Iterator[Page]:
    """The dashboard in a window of its own."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#state")
    page.wait_for_timeout(400)
    yield page
    context.close()


def wait(what: str, holds: Callable[[], bool]) -> None:
    """Until it holds, at most `_PATIENCE` seconds."""
    give_up = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > give_up:
            raise SystemExit(f"not in time: {what}")
        time.sleep(0.3)


def status(url: str) -> dict[str, Any]:
    """The gateway's status."""
    with urllib.request.urlopen(f"{url}/api/v1/status", timeout=5) as answer:
        return dict(json.load(answer))


def take(page: Page, name: str, folder: Path) -> None:
    """What the window shows, as a file."""
    path = folder / f"dashboard-{name}.png"
    page.screenshot(path=path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def tour(browser: Browser, url: str, folder: Path) -> None:
    """Follow the story and take a picture of each of its turns."""
    wait("limited production", lambda: status(url)["phase"] == "limited_production")
    time.sleep(9)
    with window(browser, url, DESK, "light") as page:
        take(page, "light", folder)
        page.evaluate("window.scrollTo(0, document.querySelector('#evidence').offsetTop - 70)")
        take(page, "experiments", folder)
    with window(browser, url, PHONE, "dark") as page:
        take(page, "phone", folder)
    wait("a rollback", lambda: bool(status(url)["latch"]["engaged"]))
    time.sleep(4)
    with window(browser, url, DESK, "dark") as page:
        take(page, "dark", folder)
    wait("a release", lambda: not status(url)["latch"]["engaged"])
    time.sleep(4)
    with window(browser, url, (1280, 900), "light") as page:
        page.keyboard.press("Alt+Shift+KeyE")
        page.fill("#dialog-emergency textarea", "provider is down")
        take(page, "emergency", folder)


def main() -> None:
    """Take every picture."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=DOCS, help="where the pictures go")
    parser.add_argument("--rps", type=int, default=40, help="requests per second of the demo")
    chosen = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        raise SystemExit("chromium is not installed")
    with demo(chosen.rps) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        tour(browser, url, chosen.folder)
        browser.close()


if __name__ == "__main__":
    main()
