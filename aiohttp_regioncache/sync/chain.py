"""If-Match of a write that was chained to pending ones, once it is to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ..records import WriteRecord
from ..semantics.fields import Headers
from ..store import queue
from ..store.fates import Fate, Named, fates_of
from ..store.keyspace import Partition
from ..store.region import RegionStore
from ..tags import if_match_of, with_if_match
from .outcome import AMBIGUOUS, Attempt, Outcome, Verdict

_TYPE: Final[Headers] = (("Content-Type", "application/problem+json"),)


class Broken(msgspec.Struct, frozen=True):
    """A chained write that is not to be sent: how it ends, and the answer that it gets in the origin's place."""

    outcome: Outcome
    answer: Attempt | None = None


def _broken(reason: str, status: int, title: str, detail: str) -> Broken:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Broken(Outcome(Verdict.REJECTED, reason), Attempt(status, tuple(_TYPE), msgspec.json.encode(document)))


VANISHED: Final = _broken(
    "status 424", 424, "Failed Dependency", "A write of the state that If-Match names was refused or given up."
)
CHANGED: Final = _broken(
    "precondition", 412, "Precondition Failed", "Other writes have changed the state that If-Match names."
)
UNTOLD: Final = Broken(Outcome(Verdict.DEAD, AMBIGUOUS))


async def resolve(
    store: RegionStore, partition: Partition, write: WriteRecord, digest: str, *, stalled: bool
) -> WriteRecord | Broken:
    """Put the origin's tags into a chained write's If-Match; call it once all writes before it have ended.

    `stalled`: somebody may have sent it already. Raises `RegionUnavailableError`.
    """
    etags = if_match_of(write)
    own, named = await asyncio.gather(
        queue.status(store, partition, write.id),
        fates_of(store, partition, etags, digest, (write.principal,)),
    )
    own = own or {}
    may_be_sent = stalled or own.get("unknown") == "1"
    return judge(write, etags, named, after=int(own.get("after", 0)), may_be_sent=may_be_sent)


def judge(
    write: WriteRecord, etags: Sequence[str], named: Mapping[str, Named], *, after: int, may_be_sent: bool = False
) -> WriteRecord | Broken:
    """Decide on an If-Match of `etags`, of which `named` are ours; `after` is the number of the write before.

    Where the origin gave no tag, the state is that of the write before or nobody can tell any more.
    """
    fates = {fate.fate for fate in named.values()}
    if any(fate.fate is Fate.SYNCED and not fate.etag and fate.seq == after for fate in named.values()):
        return with_if_match(write, (), chained=False)
    kept = [etag for each in etags if (etag := _of_the_origin(each, named.get(each)))]
    if kept:
        return with_if_match(write, list(dict.fromkeys(kept)), chained=False)
    if may_be_sent and Fate.FORGOTTEN in fates:
        return UNTOLD
    return CHANGED if fates & {Fate.SYNCED, Fate.REPLACED} else VANISHED


def _of_the_origin(etag: str, named: Named | None) -> str:
    if named is None:
        return etag
    return named.etag if named.fate is Fate.SYNCED else ""
