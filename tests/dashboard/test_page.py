"""The dashboard in a real browser, against a real gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import DESK, PHONE, WALL, Look, look
from tests.support.operating import GATE, PHASE, TOKENS, Operated
from tests.support.processes import Gateway, Load
from tests.support.programs import need_axe

pytestmark = pytest.mark.process


@pytest.fixture
def page(browser: Browser, gateway: Operated) -> Iterator[Look]:
    """The dashboard with a token, loaded; it must not have complained at the end."""
    with look(browser, gateway.url, token=TOKENS["ann"]) as seen:
        seen.condition("healthy")
        yield seen
        assert seen.complaints == []
        assert seen.asked == {gateway.url.split("/")[2]}


def confirm(page: Look, name: str, reason: str = "because") -> None:
    """Fill in a reason and press what the dialog is for."""
    page.page.fill(f"#dialog-{name} textarea", reason)
    page.click(f"#dialog-{name} [type=submit]")


def gone(page: Look, name: str) -> None:
    """The dialog closed by itself: it was done."""
    page.page.wait_for_selector(f"#dialog-{name}", state="hidden")


# --- seeing ---


def test_it_loads_with_state_ladder_gates_and_history(page: Look) -> None:
    """What people ask first is there: the state, the phase, what holds it, what happened."""
    assert "HEALTHY" in page.see("#state .word").upper()
    assert PHASE in page.see(".ladder [aria-current=step]")
    assert "healthy service left" in page.see(".gate", "time based")
    assert "0 of 1 approvals" in page.see(".gate", "manual approval")
    assert "started" in page.see("#history")
    assert "traditional" in page.see("#machine")
    assert page.see("#link") == "live"
    assert page.page.title() == "HEALTHY · gateway"


def test_it_follows_what_happens_elsewhere_without_a_reload(page: Look, gateway: Operated) -> None:
    """An emergency from a script is on the screen at once, and so is its release; nothing was reloaded."""
    page.page.evaluate("window.untouched = true")
    gateway.ask("POST", "emergency", reason="smoke in the rack")
    page.condition("emergency")
    assert "smoke in the rack" in page.see("#state .why")
    assert "bob" in page.see("#state .why")
    assert page.page.title().startswith("EMERGENCY")
    assert "emergency" in page.page.inner_text("#announce").lower()
    gateway.ask("POST", "release", reason="it was toast")
    page.condition("healthy")
    assert page.page.evaluate("window.untouched")


def test_traffic_moves_the_figures(page: Look, gateway: Operated) -> None:
    """Requests that are served show without anybody pressing anything."""
    with Load(gateway.gateway) as load:
        load.more(100)
        page.page.wait_for_function(
            "() => document.querySelector('#overview .figure').textContent.trim() !== '0'"
            " && document.querySelector('#comparison tbody td:nth-child(3)').textContent !== '0'"
        )


def test_what_operators_write_is_text(page: Look, gateway: Operated) -> None:
    """Markup in a reason is shown, not obeyed."""
    gateway.ask("POST", "rollout/pause", reason="<img src=x onerror=window.harmed=1><b>bold</b>")
    page.condition("paused")
    assert "<b>bold</b>" in page.see("#history .reason", "bold")
    assert page.page.evaluate("window.harmed") is None


def test_what_is_open_stays_open_while_it_lives_on(page: Look, gateway: Operated) -> None:
    """Details that were opened, and the focus, survive that the section is drawn anew."""
    gateway.ask("POST", "rollout/pause", reason="first")
    page.condition("paused")
    page.click("#history li:first-child summary")
    page.page.focus("#do-rollback")
    gateway.ask("POST", "rollout/resume", reason="second")
    page.condition("healthy")
    page.see("#history li:first-child .reason", "second")
    assert page.page.locator("#history details[open]").count() == 1
    assert page.page.evaluate("document.activeElement.id") == "do-rollback"


# --- doing ---


def test_an_advance_that_the_gates_refuse_says_why_and_offers_force_second(
    page: Look, gateway: Operated
) -> None:
    """Each gate's reason is shown; only then can it be forced, and the history has who and why."""
    page.click("#do-advance-limited_production")
    force = "#dialog-advance [name=force]"
    assert not page.page.is_visible(force)
    confirm(page, "advance")
    refusal = page.see("#dialog-advance .refusal li", "time based")
    assert "pending" in refusal
    assert "of healthy service left" in refusal
    assert gateway.status()["phase"] == PHASE
    page.page.check(force)
    confirm(page, "advance", "the launch cannot wait")
    gone(page, "advance")
    page.see(".ladder [aria-current=step]", "limited production")
    event = gateway.newest()
    assert (event["operator"], event["reason"]) == ("ann", "the launch cannot wait")
    assert event["evidence"]["cause"] == "force"


def test_a_gate_is_approved_and_rejected(page: Look, gateway: Operated) -> None:
    """A person's word, either way, with a reason."""
    page.click(f"[id='do-approve-{GATE}']")
    confirm(page, "approve", "looks good")
    gone(page, "approve")
    page.see(".gate", "approved by ann")
    page.click(f"[id='do-reject-{GATE}']")
    confirm(page, "reject", "on second thoughts")
    gone(page, "reject")
    page.see(".gate", "rejected by ann: on second thoughts")
    assert gateway.newest()["type"] == "rejection"


def test_pause_and_resume(page: Look, gateway: Operated) -> None:
    """The state says that somebody paused it."""
    page.click("#do-pause")
    confirm(page, "pause")
    page.condition("paused")
    assert gateway.status()["paused"]
    page.click("#do-resume")
    confirm(page, "resume", "")
    page.condition("healthy")


@pytest.mark.parametrize("way", ["false", "true"])
def test_a_rollback_at_once_or_in_steps(page: Look, gateway: Operated, way: str) -> None:
    """At once latches; gracefully drains first."""
    page.click("#do-rollback")
    page.page.check(f"#dialog-rollback [name=graceful][value={way}]")
    confirm(page, "rollback", "too slow")
    gone(page, "rollback")
    page.condition("rolled_back" if way == "false" else "draining")
    assert "too slow" in page.see("#state .why")
    if way == "true":
        gateway.ask("POST", "rollout/rollback", reason="enough")


def test_a_release_with_a_ceiling(page: Look, gateway: Operated) -> None:
    """What was rolled back comes back with no more users than the operator says."""
    gateway.ask("POST", "rollout/rollback", reason="bad answers")
    page.condition("rolled_back")
    page.page.click("[data-action=release]")
    page.page.fill("#dialog-release [name=percentage]", "12.5")
    confirm(page, "release", "mended")
    page.condition("healthy")
    assert "12.5" in page.see("#rollout .notices", "ceiling")
    assert gateway.status()["ceiling"] == 12.5


def test_an_emergency_wants_a_hold(page: Look, gateway: Operated) -> None:
    """A click is not enough; a second of holding is, without a reason; and Escape leaves it."""
    page.click("#open-emergency")
    page.page.keyboard.press("Escape")
    gone(page, "emergency")
    page.click("#open-emergency")
    page.page.hover("#hold")
    page.page.mouse.down()
    page.page.mouse.up()
    assert "again" in page.see("#hold")
    assert not gateway.status()["latch"]["engaged"]
    page.page.mouse.down()
    page.condition("emergency")
    page.page.mouse.up()
    assert gateway.newest()["operator"] == "ann"


def test_an_emergency_by_keyboard(page: Look, gateway: Operated) -> None:
    """From anywhere: the shortcut, then Enter, and Enter again."""
    page.page.keyboard.press("Alt+Shift+KeyE")
    page.see("#dialog-emergency[open]")
    page.page.keyboard.press("Enter")
    assert "again" in page.see("#hold")
    assert not gateway.status()["latch"]["engaged"]
    page.page.keyboard.press("Enter")
    page.condition("emergency")
    assert gateway.status()["latch"]["kind"] == "emergency"


def test_a_decision_on_what_moved_meanwhile_is_asked_again(page: Look, gateway: Operated) -> None:
    """Between opening a dialog and confirming it the state moved: nothing is done until one looked."""
    page.click("#do-rollback")
    gateway.ask("POST", "rollout/pause", reason="a colleague")
    page.condition("paused")
    confirm(page, "rollback")
    page.see("#dialog-rollback .refusal", "Something happened meanwhile")
    assert not gateway.status()["latch"]["engaged"]
    confirm(page, "rollback")
    page.condition("rolled_back")


def test_a_reason_is_wanted(page: Look, gateway: Operated) -> None:
    """An empty reason keeps the dialog open and sends nothing."""
    version = gateway.status()["version"]
    page.click("#do-rollback")
    page.click("#dialog-rollback [type=submit]")
    assert page.page.evaluate("document.querySelector('#dialog-rollback textarea').validity.valueMissing")
    assert gateway.status()["version"] == version


def test_it_does_not_call_itself_live_while_its_sections_cannot_be_fetched(page: Look) -> None:
    """The stream goes on, the sections are refused: what is shown is marked as old until they come again."""
    page.page.route("**/dashboard/panels*", lambda route: route.fulfill(status=500, body="no"))
    page.see("#link", "out of date")
    assert "may have changed" in page.see("#behind")
    assert page.page.evaluate("document.body.classList.contains('stale')")
    page.page.unroute("**/dashboard/panels*")
    page.see("#link", "live")
    assert not page.page.is_visible("#behind")
    page.complaints[:] = [one for one in page.complaints if "500" not in one]


# --- who ---


def test_a_wrong_token_is_refused_and_the_right_one_goes_on(browser: Browser, gateway: Operated) -> None:
    """The page loads for everybody and shows nothing until the token is right."""
    with look(browser, gateway.url) as seen:
        seen.see("#dialog-token")
        assert seen.page.locator("#state").count() == 0
        seen.page.fill("#dialog-token [name=token]", "guessed")
        seen.page.keyboard.press("Enter")
        seen.see("#dialog-token .refusal", "does not know")
        assert seen.page.locator("#state").count() == 0
        seen.page.fill("#dialog-token [name=token]", TOKENS["bob"])
        seen.page.keyboard.press("Enter")
        seen.condition("healthy")
        seen.page.reload()
        seen.condition("healthy")  # asked once for a tab
        seen.click("#forget")
        seen.see("#dialog-token")
        assert seen.complaints == []


# --- every screen ---


@pytest.mark.parametrize("size", [PHONE, DESK, WALL], ids=["phone", "desk", "wall"])
def test_it_fits_the_screen(browser: Browser, gateway: Operated, size: tuple[int, int]) -> None:
    """Nothing sticks out sideways, the emergency button is in sight, and letters grow with the wall."""
    with look(browser, gateway.url, token=TOKENS["ann"], size=size) as seen:
        seen.condition("healthy")
        assert seen.overflow() <= 0
        box = seen.page.locator("#open-emergency").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= size[0]
        assert box["height"] >= 37
        root = seen.page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
        assert root >= {PHONE: 15, DESK: 14, WALL: 24}[size]
        seen.click("#open-emergency")
        assert seen.overflow() <= 0
        assert seen.complaints == []


def test_hostile_and_endless_names_stay_text_within_the_phone(browser: Browser, gateway: Operated) -> None:
    """A name of an experiment, a reason: nothing of it is markup, and nothing pushes the page aside."""
    endless = "<img src=x onerror=alert(1)>" + "name_without_end_" * 8
    groups = {"control": {"weight": 50}, "treatment": {"weight": 50, "configuration": {"dspy_enabled": True}}}
    wanted = {"id": "hostile", "name": endless, "groups": groups, "success_metrics": ["accuracy"]}
    gateway.ask("POST", "experiments", **wanted)
    gateway.ask("POST", "rollout/pause", reason=endless)
    with look(browser, gateway.url, token=TOKENS["ann"], size=PHONE) as seen:
        seen.condition("paused")
        assert endless in seen.see("#experiments")
        assert seen.page.locator("#panels img").count() == 0
        assert seen.overflow() <= 0
        assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, gateway: Operated, scheme: str) -> None:
    """Contrast, names, roles, order: the whole page, its dialogs, and the state at its worst."""
    axe = need_axe()
    with look(browser, gateway.url, token=TOKENS["ann"], scheme=scheme) as seen:
        seen.condition("healthy")
        assert seen.violations(axe) == []
        for action in ("advance", "rollback", "emergency") if scheme == "light" else ("emergency",):
            seen.click(f"[data-action={action}]")
            assert seen.violations(axe, f"#dialog-{action}") == []
            seen.close_dialogs()
        gateway.ask("POST", "rollout/pause", reason="for the test")
        seen.condition("paused")
        assert seen.violations(axe, "#state") == []
        gateway.ask("POST", "emergency", reason="for the test")
        seen.condition("emergency")
        assert seen.violations(axe, "#state", "#rollout", "#history") == []


# --- when it is gone ---


def test_it_says_that_it_is_blind_and_comes_back_by_itself(
    browser: Browser, gateways: Callable[..., Any]
) -> None:
    """A gateway that is stopped and started again: old figures are marked, then live again."""
    gateway: Gateway = gateways(workers=1)
    gateway.start()
    with look(browser, f"http://127.0.0.1:{gateway.admin_port}/") as seen:
        seen.condition("healthy")
        gateway.stop(40)
        assert "gateway emergency" in seen.see("#lost")
        assert seen.see("#link") == "no contact"
        gateway.start()
        seen.see("#link", "live")
        assert not seen.page.is_visible("#lost")
        seen.page.click("#do-pause")
        seen.page.fill("#dialog-pause [name=operator]", "carla")
        confirm(seen, "pause", "only to see my name")
        seen.condition("paused")
        seen.see("#history li", "carla")
        assert seen.complaints == []
