"""If-Match of a write behind: what it asks for may be a state that is pending itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records import WriteRecord
from ..store.fates import Fate, Named, fates_of
from ..store.keyspace import Partition
from ..store.region import RegionStore
from ..tags import if_match_of, with_if_match


async def resolve(
    store: RegionStore, partition: Partition, record: WriteRecord, digest: str, principals: Sequence[str]
) -> WriteRecord | None:
    """Put into a write's If-Match what the origin can judge; None when what it asks for has vanished.

    Tags of the origin, `*` and what is malformed stay as they are. Raises `RegionUnavailableError`.
    """
    etags = if_match_of(record)
    named = await fates_of(store, partition, etags, digest, principals)
    return judge(record, etags, named) if named else record


def judge(record: WriteRecord, etags: Sequence[str], named: Mapping[str, Named]) -> WriteRecord | None:
    """Decide on an If-Match of `etags`, of which `named` are ours: any one that can still hold is enough.

    A pending state stays named until the write is sent; of one that the origin has, its own tag takes the place.
    """
    kept = [etag for each in etags if (etag := _still(each, named.get(each)))]
    is_chained = any(fate.fate is Fate.PENDING for fate in named.values())
    return with_if_match(record, list(dict.fromkeys(kept)), chained=is_chained) if kept else None


def _still(etag: str, named: Named | None) -> str:
    if named is None or named.fate is Fate.PENDING:
        return etag
    return named.etag if named.fate is Fate.SYNCED else ""
