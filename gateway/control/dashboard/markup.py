"""Builds HTML and SVG from values, so that escaping cannot be forgotten.

Text becomes markup only through `element`, which escapes it; what is `Markup` already passes unchanged.
Of tags it only knows which ones HTML never closes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

_VOID = frozenset(("br", "hr", "img", "input", "link", "meta"))


class Markup(str):
    """Text that is markup: whatever came from outside is escaped in it."""

    __slots__ = ()


Content: TypeAlias = "Markup | str | int | float | Iterable[Content] | None"
"""What an element may hold: markup, text, numbers, nothing, and sequences of these."""
Attribute: TypeAlias = str | int | float | bool | None
"""An attribute's value: True writes the name alone, None and False leave it out."""


def element(name: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """One element. In attributes' names `_` stands for `-`, and a trailing one is dropped (`class_`)."""
    opening = f"<{name}{''.join(_attribute(*item) for item in attributes.items())}>"
    return Markup(opening if name in _VOID else f"{opening}{join(content)}</{name}>")


def join(content: Content) -> Markup:
    """Several pieces one after the other."""
    if content is None:
        return Markup()
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(content))
    if isinstance(content, int | float):
        return Markup(content)
    return Markup("".join(map(join, content)))


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
