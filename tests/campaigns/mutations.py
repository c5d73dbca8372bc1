"""Deliberately broken packages: the proof that the campaign finds what it looks for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from aiohttp_regioncache.reads import decide, lookup
from aiohttp_regioncache.store import entries, outbox, queue
from aiohttp_regioncache.store.scripts import script


def fence() -> None:
    """Every claim has the same fence: nobody sees that a resource is another's by now."""
    claim: Any = queue.claim

    async def same(store: Any, partition: Any, _fence: str, limit: int, lease: float) -> Any:
        return await claim(store, partition, "0", limit, lease)

    _put(queue, "claim", same)


def fill_guard() -> None:
    """A fetched response is stored whatever the token is by now."""
    _edit("fill", "(state.token ~= ARGV[1] and renewed(state.token, ARGV[7]) ~= ARGV[1])", "false")


def one_script_read() -> None:
    """A dirty resource is read in two steps: the entry and what has landed, then what is pending."""
    look: Any = entries.look

    async def twice(*arguments: Any, **options: Any) -> Any:
        first = await look(*arguments, **options)
        second = await look(*arguments, **options)
        return msgspec.structs.replace(first, pending=second.pending)

    _put(entries, "look", twice)


def idempotency() -> None:
    """An idempotency record is written but never looked up."""
    _edit("accept", "idempotency and redis.call('GET', idempotency)", "false")


def outbox_resend() -> None:
    """A server that has restarted hears of nothing again."""
    _put(outbox, "resume", lambda cursor, _run, _now: cursor.id)


def run_mark() -> None:
    """Entries that another run of the server stored are used as they are."""
    standing = decide.standing

    def judged(*arguments: Any) -> decide.Standing:
        found = standing(*arguments)
        return decide.Standing.USABLE if found is decide.Standing.OTHER_RUN else found

    _put(decide, "standing", judged)
    _put(lookup, "standing", judged)


MUTATIONS: Final[dict[str, Callable[[], None]]] = {
    function.__name__.replace("_", "-"): function
    for function in (fence, fill_guard, one_script_read, idempotency, outbox_resend, run_mark)
}


def install(names: Sequence[str]) -> None:
    """Break the package in this process in the ways of those names."""
    for name in names:
        MUTATIONS[name]()


def _edit(name: str, old: str, new: str) -> None:
    """Change the text of a script. Raises `ValueError` when `old` is not in it exactly once."""
    found = script(name)
    if found.text.count(old) != 1:
        raise ValueError(f"script {name} has {found.text.count(old)} times {old!r}")
    text = found.text.replace(old, new)
    # The one object that everybody gets.
    msgspec.structs.force_setattr(found, "text", text)
    msgspec.structs.force_setattr(found, "sha", hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _put(owner: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)
