"""Whether a config that is refused asks for the emergency all the same.

In doubt it does. Somebody who writes `emergency: true` into a file with a fault elsewhere, below an
`emergency: false` that stands there already, or in a spelling of their own, means it. So everything counts
but a clear no, also in a text that is no YAML. It does not know what follows.
"""

from __future__ import annotations

import re

from gateway.control.config.document import Node

_CLEAR_NO = frozenset({"", "0", "false", "no", "off", "n", "null", "none", "~"})
_LINE = re.compile(
    r"""^(?P<quote>["']?)emergency(?P=quote)[ \t]*:(?=[ \t\r\n]|\Z)(?P<value>[^#\r\n]*)""", re.MULTILINE
)
"""The key as it stands at the top level of block YAML: at the beginning of a line."""


def is_yes(text: str) -> bool:
    """True unless the text is a clear no, such as `false`, `0` or nothing at all."""
    return text.strip(" \t\"'").lower() not in _CLEAR_NO


def asks(data: bytes, root: Node | None) -> bool:
    """True if a refused text asks for the emergency; `root` is its document where it is one."""
    lines = _LINE.finditer(data.decode(errors="replace"))
    return any(is_yes(line["value"]) for line in lines) or (root is not None and _says_yes(root))


def _says_yes(root: Node) -> bool:
    """True if the key says yes where it need not begin a line: between braces."""
    node = root.content.get("emergency") if isinstance(root.content, dict) else None
    if node is None or node.content is None:
        return False
    return is_yes(str(node.content)) if not isinstance(node.content, (list, dict)) else True
