"""Chromium for tests: one browser, pages that note every complaint, and what a page is looked at by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.support.programs import need

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 40_000
"""Milliseconds that a page has to come to look as expected, on a busy machine."""
DESK, PHONE, WALL = (1280, 900), (360, 740), (3840, 2160)
SERIOUS = frozenset(("serious", "critical"))


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    executable = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Look:
    """A page under test, everything that it complained of, and every host that it asked."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def note_console(self, message: ConsoleMessage) -> None:
        """What the console says; answers of 4xx are the test's own doing and looked at there."""
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def note_request(self, request: Request) -> None:
        self.asked.add(request.url.split("/")[2])

    def see(self, selector: str, text: str | None = None) -> str:
        """Wait until an element is there, and has the text; its whole text."""
        found = self.page.locator(selector)
        if text is not None:
            found = found.filter(has_text=text)
        found.first.wait_for(state="visible", timeout=PATIENCE)
        return found.first.inner_text()

    def condition(self, wanted: str) -> None:
        """Wait until the big state is the wanted one."""
        self.page.wait_for_selector(f"#state[data-condition={wanted}]", timeout=PATIENCE)

    def click(self, selector: str) -> None:
        self.page.click(selector, timeout=PATIENCE)

    def close_dialogs(self) -> None:
        """As Escape does, for each that is open."""
        self.page.evaluate("document.querySelectorAll('dialog[open]').forEach(d => d.close())")

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        script = "document.documentElement.scrollWidth - window.innerWidth"
        return int(self.page.evaluate(script))

    def violations(self, axe: str, *within: str) -> list[str]:
        """What axe-core finds serious, within some elements or everywhere: rule and place."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe)
        script = "where => axe.run(where ?? document, {resultTypes: ['violations']})"
        found: dict[str, Any] = self.page.evaluate(script, list(within) or None)
        return [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found["violations"]
            if violation["impact"] in SERIOUS
            for node in violation["nodes"]
        ]


@contextlib.contextmanager
def look(
    browser: Browser,
    url: str,
    *,
    token: str | None = None,
    size: tuple[int, int] = DESK,
    scheme: Any = "light",
) -> Iterator[Look]:
    """Open the dashboard in a browser window of its own, with a token as if it had been typed in."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    if token is not None:
        context.add_init_script(f"sessionStorage.setItem('gateway-token', {token!r})")
    seen = Look(context.new_page())
    seen.page.on("console", seen.note_console)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", seen.note_request)
    try:
        seen.page.goto(url, timeout=PATIENCE)
        yield seen
    finally:
        context.close()
