"""The rules of the fault campaign, and the kinds of resource that go with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Affect, Bulk, Representation, Rule, Write

LEASE: Final = 3.0
"""Seconds."""
INTENT_SECONDS: Final = 5.0
"""After which others look after a write through."""
TIMEOUT: Final = 2.0
"""Seconds that one attempt at the origin has."""
BULK_ENDPOINT: Final = "/bulk"
NUMBER_HEADER: Final = "X-Number"
"""Names the number of a write, also of one without a body."""

MERGE: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource: where it lies, and the methods of its writes, each as often as it is named.

    `writers`: principals that write the same resource. `repeatable`: whether a plain origin may get a write twice.
    `behind`: whether writes are acknowledged before the origin has them.
    """

    name: str
    methods: tuple[str, ...] = ("PUT",)
    writers: int = 1
    repeatable: bool = True
    behind: bool = True


ITEMS: Final = Kind("items", ("PUT",) * 6 + ("PATCH",) * 3 + ("DELETE",))
BATCHED: Final = Kind("batched")
SHELVES: Final = Kind("shelves")
PAIRS: Final = Kind("pairs", ("PATCH",), writers=2)
ONCE: Final = Kind("once", repeatable=False)
LOGS: Final = Kind("logs", ("POST",))
DIRECT: Final = Kind("direct", behind=False)
KINDS: Final = {kind.name: kind for kind in (ITEMS, BATCHED, SHELVES, PAIRS, ONCE, LOGS, DIRECT)}
SHELF_COUNT: Final = 2


def kind_of(path: str) -> Kind:
    """The kind of a resource by its path."""
    return KINDS[path.split("/")[1]]


def rules() -> list[Rule]:
    """One rule for each kind."""
    return [
        Rule("/items/{id}", write="behind", affects=[]),
        Rule("/batched/{id}", write="behind", affects=[], bulk=Bulk(endpoint=BULK_ENDPOINT, max_writes=20)),
        Rule("/shelves/{shelf}/{id}", write="behind", affects=[Affect("/shelves/{shelf}", effect=onto_shelf)]),
        Rule("/pairs/{id}", write="behind", affects=[]),
        Rule("/once/{id}", write="behind", affects=[], replay="never", on_dead="skip"),
        Rule("/logs/{id}", write="behind", affects=[]),
        Rule("/direct/{id}", write="through"),
    ]


def shelf_of(path: str) -> tuple[str, str] | None:
    """The list that a resource stands in, and its name there; None for one that stands in none."""
    parts = path.split("/")
    return ("/".join(parts[:3]), parts[3]) if parts[1] == "shelves" and len(parts) == 4 else None


def onto_shelf(base: Representation | None, write: Write) -> Representation | regioncache.effects.Unknown | None:
    """What a write to a resource of a shelf does to the list: its number stands under its name."""
    if base is None:
        return regioncache.UNKNOWN
    document: dict[str, Any] = json.loads(base.body)
    written = json.loads(write.body)
    document[written["id"]] = written["n"]
    return Representation(json.dumps(document).encode(), base.content_type)
