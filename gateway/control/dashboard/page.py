"""The page itself: an empty frame with its dialogs, the same for everybody.

It contains no data, so it needs no token; the script fetches the sections and inserts them. Scripts and
styles come from this server only, and none is inline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.control.dashboard.files import DIGEST, address
from gateway.control.dashboard.markup import Content, Markup, element
from gateway.control.dashboard.parts import icon

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing from elsewhere, nothing inline, no frame around it."""
REASON_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Action:
    """A dialog that does one thing. `path` may hold `{gate}`; `fields` come before the reason."""

    name: str
    title: str
    explains: str
    does: str
    path: str
    fields: tuple[Markup, ...] = ()
    tone: str = "primary"
    needs_reason: bool = True


def _choice(name: str, legend: str, *options: tuple[str, str, str]) -> Markup:
    """One of several, the first unless something else is chosen: value, title, what it means."""
    radios = [
        element(
            "label",
            element("input", type="radio", name=name, value=value, checked=place == 0),
            element("span", element("strong", title), " ", meaning),
        )
        for place, (value, title, meaning) in enumerate(options)
    ]
    return element("fieldset", element("legend", legend), radios)


_ACTIONS = (
    Action(
        "advance",
        "Advance",
        "To the next phase, if every gate lets it pass.",
        "Advance",
        "rollout/advance",
    ),
    Action(
        "pause",
        "Pause",
        "Nothing advances and time gates stand still. Alerts and rollback go on.",
        "Pause",
        "rollout/pause",
        needs_reason=False,
    ),
    Action(
        "resume",
        "Resume",
        "Advances and time gates go on.",
        "Resume",
        "rollout/resume",
        needs_reason=False,
    ),
    Action(
        "rollback",
        "Roll back",
        "Everybody to control and a phase back, until a release.",
        "Roll back",
        "rollout/rollback",
        (
            _choice(
                "graceful",
                "How",
                ("false", "At once.", "The next request of every user goes to control."),
                ("true", "Gracefully.", "The share goes down in steps first; open requests finish."),
            ),
        ),
        tone="danger",
    ),
    Action(
        "release",
        "Release",
        "Lifts the latch: users go back to treatment as the phase that stands says.",
        "Release",
        "release",
        (
            element(
                "label",
                element(
                    "span",
                    "At most so many percent of users ",
                    element("small", "(empty: what the rollout says)"),
                ),
                element("input", type="number", name="percentage", min=0, max=100, step="any"),
            ),
        ),
    ),
    Action("approve", "Approve", "Your word for this gate.", "Approve", "gates/{gate}/approve"),
    Action(
        "reject", "Reject", "Your word against this gate.", "Reject", "gates/{gate}/reject", tone="danger"
    ),
)


def page() -> str:
    """The whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="assets", content=DIGEST),
        element("title", "gateway"),
        element("link", rel="icon", href=address("icon.svg"), type="image/svg+xml"),
        element("link", rel="stylesheet", href=address("dashboard.css")),
        element("script", src=address("dashboard.js"), type="module"),
    )
    dialogs = [*(_dialog(action) for action in _ACTIONS), _emergency(), _token()]
    body = element("body", _header(), _main(), dialogs)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header() -> Markup:
    emergency = element(
        "button",
        icon("emergency"),
        element("span", "Emergency"),
        type="button",
        id="open-emergency",
        class_="button emergency",
        data_action="emergency",
        aria_haspopup="dialog",
        aria_keyshortcuts="Alt+Shift+E",
        title="Everything to control (Alt+Shift+E)",
    )
    return element(
        "header",
        element("a", "skip to the rollout", href="#rollout", class_="skip"),
        element("h1", "gateway"),
        element("p", "connecting", id="link", class_="link", role="status", data_state="connecting"),
        element("button", "Forget token", type="button", id="forget", class_="button quiet", hidden=True),
        emergency,
        class_="top",
    )


def _main() -> Markup:
    waiting = element("p", "Asking the gateway how it does …", class_="empty")
    script = element("noscript", element("p", "This page needs JavaScript. Try: gateway status --watch"))
    lost = element(
        "p",
        element("strong", "No contact with the control process."),
        " What you see is old. Traffic goes on without it. An emergency works from a shell: ",
        element("code", "gateway emergency"),
        id="lost",
        class_="lost",
        role="alert",
        hidden=True,
    )
    behind = element(
        "p",
        element("strong", "The gateway runs, but does not say how it does."),
        " What you see may have changed. Try: ",
        element("code", "gateway status"),
        id="behind",
        class_="lost",
        role="alert",
        hidden=True,
    )
    announced = element("p", id="announce", class_="hidden", role="status", aria_live="polite")
    return element("main", announced, lost, behind, element("div", waiting, script, id="panels"))


# --- dialogs ------------------------------------------------------------------------------------


def _dialog(action: Action) -> Markup:
    force = _force() if action.name == "advance" else None
    return _frame(
        action.name,
        action.title,
        element("p", action.explains, " ", element("span", class_="about")),
        *action.fields,
        _operator(),
        _reason(required=action.needs_reason),
        element("div", class_="refusal", role="alert"),
        force,
        element(
            "footer",
            element("button", "Cancel", type="button", class_="button", data_close=True),
            element("button", action.does, type="submit", class_=f"button {action.tone}"),
        ),
        path=action.path,
    )


def _force() -> Markup:
    """The second step of an advance: only there once the gates refused."""
    return element(
        "label",
        element("input", type="checkbox", name="force", value="true"),
        " Skip the gates. I answer for it; the history will say so.",
        class_="force",
        hidden=True,
    )


def _emergency() -> Markup:
    return _frame(
        "emergency",
        "Emergency",
        element("p", "Every user to control, with the next request, until somebody releases it."),
        _operator(),
        _reason(required=False),
        element("div", class_="refusal", role="alert"),
        element(
            "footer",
            element("button", "Cancel", type="button", class_="button", data_close=True),
            element(
                "button",
                element("span", "Hold to send everybody to control", class_="said"),
                type="button",
                id="hold",
                class_="button emergency hold",
                aria_describedby="hold-help",
            ),
        ),
        element("p", "Hold for a second, or press twice.", id="hold-help", class_="note"),
        path="emergency",
    )


def _token() -> Markup:
    return _frame(
        "token",
        "Who are you?",
        element("p", "This gateway wants an operator's token. It is kept until this tab is closed."),
        element(
            "label",
            "Token",
            element(
                "input", type="password", name="token", required=True, autocomplete="off", spellcheck="false"
            ),
        ),
        element("div", class_="refusal", role="alert"),
        element("footer", element("button", "Go on", type="submit", class_="button primary")),
    )


def _frame(name: str, title: str, *content: Content, path: str | None = None) -> Markup:
    heading = element("h2", title, id=f"dialog-{name}-title")
    form = element("form", heading, content, method="dialog", data_path=path, novalidate=name == "emergency")
    return element("dialog", form, id=f"dialog-{name}", aria_labelledby=f"dialog-{name}-title")


def _operator() -> Markup:
    """Asked for where no token says who it is."""
    field = element("input", type="text", name="operator", autocomplete="username", maxlength=100)
    return element("label", "Your name", field, class_="operator")


def _reason(*, required: bool) -> Markup:
    optional = None if required else element("small", " (may be empty)")
    field = element("textarea", name="reason", rows=2, maxlength=REASON_LIMIT, required=required)
    return element("label", element("span", "Reason", optional), field)
