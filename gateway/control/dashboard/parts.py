"""The building blocks of the page's sections: icons, badges, buttons, times, tables, panels.

Each says in words what its colour says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from gateway.control.dashboard.figures import NOTHING, ago, unix
from gateway.control.dashboard.markup import Content, Markup, element, join

Document: TypeAlias = Mapping[str, Any]

_ICONS: Mapping[str, str] = {
    "emergency": "M12 2 22 7v6c0 5-4 8-10 9C6 21 2 18 2 13V7z M12 7v6 M12 16.5v.5",
    "rolled_back": "M4 4v6h6 M4.5 10a8 8 0 1 1-.8 5",
    "safe_mode": "M6 11V8a6 6 0 0 1 12 0v3 M4 11h16v10H4z",
    "not_serving": "M5 5l14 14 M19 5 5 19",
    "treatment_away": "M9 8V3 M15 8V3 M6 8h12v3a6 6 0 0 1-6 6v4 M4 20 20 4",
    "draining": "M12 3v12 M7 10l5 5 5-5 M4 20h16",
    "trial": "M12 3v18 M5 7h14 M5 7l-3 7h6z M19 7l-3 7h6z",
    "holding": "M8 11V5.5a1.5 1.5 0 0 1 3 0V10 M11 10V4a1.5 1.5 0 0 1 3 0v6 M14 10V5.5a1.5 1.5 0 0 1 3 0V14"
    "c0 4-2 7-6 7s-5-2-7-7l-.5-1.5a1.5 1.5 0 0 1 2.7-1.3L8 14",
    "faulty": "M12 3 22 20H2z M12 9v5 M12 17v.2",
    "alerting": "M6 17V11a6 6 0 0 1 12 0v6l2 2H4z M10 22h4",
    "paused": "M8 5v14 M16 5v14",
    "healthy": "M4 12.5l5.5 5.5L20 7",
    "pass": "M4 12.5l5.5 5.5L20 7",
    "fail": "M5 5l14 14 M19 5 5 19",
    "pending": "M12 3a9 9 0 1 0 .01 0 M12 7v5l4 2",
    "inconclusive": "M9 9a3 3 0 1 1 4 3c-1 .6-1 1-1 2 M12 17v.2",
}
"""Outlines on a grid of 24."""


def icon(name: str) -> Markup:
    """A decorative outline; the word beside it says the same."""
    return element(
        "svg",
        element("path", d=_ICONS[name]),
        viewBox="0 0 24 24",
        class_=f"icon icon-{name}",
        aria_hidden="true",
        focusable="false",
    )


def badge(text: str, tone: str) -> Markup:
    """A word in a coloured field."""
    return element("span", text, class_=f"badge {tone}")


def button(text: str, action: str, *, tone: str = "", enabled: bool = True, **data: str | None) -> Markup:
    """A button that opens the dialog of an action; `data` goes to the dialog."""
    about = {f"data_{name}": value for name, value in data.items()}
    named = "-".join([action, *(value for value in data.values() if value)])
    return element(
        "button",
        text,
        type="button",
        id=f"do-{named}",
        class_=f"button {tone}".strip(),
        data_action=action,
        disabled=not enabled,
        aria_haspopup="dialog",
        **about,
    )


def moment(at: Any, now: float) -> Markup:
    """A time with how long ago it is; machine-readable too. `at` is RFC 3339."""
    then = unix(at)
    if then is None:
        return element("span", NOTHING)
    said = f"{at[11:19]} UTC" if now - then < 72_000 else f"{at[:10]} {at[11:16]} UTC"
    past = element("span", ago(then, now), class_="ago")
    return element("time", said, " ", past, datetime=at)


def when(at: Any) -> Markup:
    """A time that is still to come. `at` is RFC 3339."""
    return element("time", f"{at[:10]} {at[11:16]} UTC", datetime=at)


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Content]], class_: str = "") -> Markup:
    """A table whose first cell of each row names the row; it scrolls by itself where it is too wide."""
    head = element("tr", [element("th", text, scope="col") for text in heads])
    lines = [
        element("tr", element("th", first, scope="row"), [element("td", cell) for cell in rest])
        for first, *rest in rows
    ]
    content = (
        element("caption", caption, class_="hidden"),
        element("thead", head),
        element("tbody", lines),
    )
    inner = element("table", content, class_=class_ or None)
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Iterable[tuple[str, Content]]) -> Markup:
    """Names and values as a description list."""
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", rows, class_="facts")


def empty(text: str) -> Markup:
    """A friendly word where there is nothing yet."""
    return element("p", text, class_="empty")


def panel(name: str, title: str, *content: Content, note: Content = None, class_: str = "") -> Markup:
    """One section of the page: `name` is its id, which the page's script replaces it by."""
    heading = element("h2", title, id=f"{name}-title")
    said = element("p", note, class_="note") if note is not None else None
    return element(
        "section",
        element("header", heading, said),
        join(content),
        id=name,
        class_=f"panel {class_}".strip(),
        aria_labelledby=f"{name}-title",
    )
