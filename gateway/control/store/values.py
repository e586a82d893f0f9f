"""Documents of the store as values: read back without failing, replaced by their successors.

For owners of one document that nobody else writes. It does not know what any of them means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gateway import logs
from gateway.control.store.api import Document, Entry, Store
from gateway.control.store.encoding import from_json, to_json
from gateway.model.rollout import Durability

T = TypeVar("T")


def recall(kind: type[T], stored: Document | None, what: str) -> T | None:
    """The value of a document; None where there is none, or it cannot be read.

    The latter is said in the log, where `what` is a name for people.
    """
    if stored is None:
        return None
    try:
        return from_json(kind, stored.body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logs.error("document not readable", what=what, error=repr(error))
        return None


async def put(store: Store, name: str, value: object, entries: Sequence[Entry] = ()) -> None:
    """Let a value stand in place of the one before, with lines of the history, and be written when it can."""
    standing = store.document(name)
    before = None if standing is None else standing.version
    document = Document((before or 0) + 1, to_json(value))
    await store.commit(name, before, document, entries, Durability.BEST_EFFORT)
