"""Sites in one region: a record under each id, and a pointer from each host. Every key lies in a slot of its own.

The record is authoritative. A pointer counts only if the record that it names lists the host, so that what is done in
several steps shows nothing wrong in between. Of two sites that list a host the one that came to it last has it: each
record says with which revision it came to each of its hosts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ..errors import CorruptRecordError, RecordError, SettingsError, UnreadableRecordError
from ..site import Site, host_candidates, site_data, site_from
from .accepting import TOLD, read_told
from .entries import OUTBOX_LENGTH
from .keyspace import SITES, Partition, domain_key, events_channel, site_key
from .region import RegionStore
from .scripts import script

logger = logging.getLogger(__name__)

VERSION: Final = 1
"""Version of the record that this package writes, and the newest that it reads."""
DELETED_SECONDS: Final = 8 * 86_400
"""How long it is remembered that a site was deleted, so that an older revision does not bring it back."""
_AT_ONCE: Final = 500
_ATTEMPTS: Final = 8


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """What lies under a site's id; the claims are read whatever the version."""

    version: int
    claims: dict[str, int]
    site: msgspec.Raw = msgspec.Raw(b"\xc0")


class StoredSite(msgspec.Struct, frozen=True):
    """One revision of a site as it lies in a region: `octets` is all of it.

    `claims`: for each host the revision with which the site came to it; none when the site is deleted.
    """

    id: str
    revision: int
    octets: bytes
    claims: Mapping[str, int]
    record: _Record | None

    def read(self) -> Site | None:
        """Read the site; None for one that is deleted.

        Raises `UnreadableRecordError` for what a newer version wrote, `CorruptRecordError` for what none did.
        """
        if self.record is None:
            return None
        if self.record.version > VERSION:
            raise UnreadableRecordError(f"site {self.id}: a record of version {self.record.version}")
        try:
            data = msgspec.msgpack.decode(self.record.site)
            return site_from({**data, "id": self.id, "revision": self.revision})
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, SettingsError) as error:
            raise CorruptRecordError(f"site {self.id}: {error}") from None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


def parse_stored(site_id: str, octets: bytes) -> StoredSite:
    """Read what lies under a site's id. Raises `CorruptRecordError` for what no version wrote."""
    number, _, rest = octets.partition(b"|")
    if not (number.isdigit() and len(number) <= 16):
        raise CorruptRecordError(f"site {site_id}: no revision")
    revision = int(number)
    if not rest:
        return StoredSite(site_id, revision, octets, {}, None)
    try:
        record = _decode(rest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecordError(f"site {site_id}: {error}") from None
    claims = {host: claim or revision for host, claim in record.claims.items()}
    return StoredSite(site_id, revision, octets, claims, record)


def encode_site(site: Site, before: StoredSite | None) -> bytes:
    """Write the record of a site; a host that it had `before` keeps its claim, 0 stands for the new revision."""
    known = before.claims if before else {}
    claims = {host: known.get(host, 0) for host in site.hosts}
    data = {name: value for name, value in site_data(site).items() if name != "id"}
    return _encode(_Record(VERSION, claims, msgspec.Raw(_encode(data))))


async def read_stored(store: RegionStore, site_id: str) -> StoredSite | None:
    """Read what lies under a site's id. Raises `RegionUnavailableError` and `CorruptRecordError`."""
    octets = await store.reads.command("GET", site_key(site_id))
    return None if octets is None else parse_stored(site_id, octets)


async def read_all(store: RegionStore) -> list[StoredSite]:
    """Read every site, deleted ones too; what no version wrote is passed. Raises `RegionUnavailableError`."""
    ids = [site_id.decode("ascii", "replace") for site_id in await store.queue.command("ZRANGE", SITES, 0, -1)]
    found: list[StoredSite] = []
    for some in _chunks(ids):
        values = await asyncio.gather(*(store.queue.command("GET", site_key(site_id)) for site_id in some))
        for site_id, octets in zip(some, values, strict=True):
            if octets is None:
                await _forget(store, site_id)
                continue
            try:
                found.append(parse_stored(site_id, octets))
            except CorruptRecordError as error:
                logger.error("region %s: %s", store.name, error)
    return found


async def find_stored(store: RegionStore, host: str) -> StoredSite | None:
    """Find the site of a host: the one that lists its name, or else the wildcard beside it.

    Raises `RegionUnavailableError` and `CorruptRecordError`.
    """
    names = host_candidates(host)
    pointers = await asyncio.gather(*(store.reads.command("GET", domain_key(name)) for name in names))
    for name, pointer in zip(names, pointers, strict=True):
        stored = await read_stored(store, _pointed(pointer)[1]) if pointer is not None else None
        if stored is not None and name in stored.claims:
            return stored
    return None


async def put_record(
    store: RegionStore, site_id: str, record: bytes, announce: Callable[[StoredSite], bytes], *, least: int = 0
) -> StoredSite:
    """Store a new revision of a site, at least `least`; an empty `record` deletes it.

    The region is told and, through its outbox, the others: `announce` writes the item. Raises
    `RegionUnavailableError`; the same may be tried again then.
    """
    revision, _, before = await _put(store, site_id, 0, record, least)
    octets = b"%d|%s" % (revision, record)
    stored = parse_stored(site_id, octets)
    await _settle(store, stored, before, announce(stored))
    return stored


async def take(store: RegionStore, site_id: str, octets: bytes) -> None:
    """Take over a revision of a site from another region, unless a newer one is there; harmless to repeat.

    Raises `RegionUnavailableError`.
    """
    try:
        stored = parse_stored(site_id, octets)
    except CorruptRecordError as error:
        logger.error("not taken into region %s: %s", store.name, error)
        return
    _, verdict, before = await _put(store, site_id, stored.revision, octets.partition(b"|")[2], 0)
    if verdict == "stored":
        await _settle(store, stored, before, b"")


async def take_all(source: RegionStore, target: RegionStore) -> None:
    """Take every site of a region over into another one. Raises `RegionUnavailableError`."""
    for some in _chunks(await read_all(source)):
        await asyncio.gather(*(take(target, stored.id, stored.octets) for stored in some))


async def changes(store: RegionStore) -> int:
    """Count the changes of sites that a region has told of: while it stays the same, none has. Raises as others."""
    return int(await store.reads.command("GET", store.partitions[0].site_changes) or 0)


async def pending_writes(store: RegionStore, site_id: str) -> int:
    """Count a site's writes in a region that have not ended, and the dead ones that hold others up.

    Raises `RegionUnavailableError`. Takes a time that grows with what is pending there.
    """
    count = 0
    for partition in store.partitions:
        members = await store.queue.command("ZRANGE", partition.queue, 0, -1)
        blocking = await store.queue.command("HVALS", partition.blocked)
        ids = [*(member.partition(b"|")[2].decode() for member in members), *map(bytes.decode, blocking)]
        for some in _chunks(ids):
            count += await _of_site(store, partition, some, site_id)
    return count


async def _of_site(store: RegionStore, partition: Partition, ids: Sequence[str], site_id: str) -> int:
    asked = (store.queue.command("HGET", partition.status(write_id), TOLD) for write_id in ids)
    return [read_told(told).get("site") for told in await asyncio.gather(*asked)].count(site_id)


async def _put(
    store: RegionStore, site_id: str, revision: int, record: bytes, least: int
) -> tuple[int, Literal["stored", "older"], bytes]:
    """Store a revision, 0 for a new one; give its number, whether it stands now, and what stood before."""
    arguments = (revision, least, record, DELETED_SECONDS * 1000)
    number, verdict, before = await store.queue.run(script("put_site"), (site_key(site_id),), arguments)
    return int(number), "stored" if verdict == b"stored" else "older", before


async def _settle(store: RegionStore, stored: StoredSite, octets_before: bytes, item: bytes) -> None:
    """Bring the index and the hosts' pointers in line with a record that has been stored, and say so."""
    before = _hosts_of(stored.id, octets_before)
    await store.queue.run(script("list_site"), (SITES,), (stored.id, stored.revision))
    await asyncio.gather(*(_point(store, host, stored.id, claim) for host, claim in stored.claims.items()))
    await _leave(store, stored.id, before - stored.claims.keys())
    hosts = " ".join(sorted(before | stored.claims.keys()))
    arguments = (events_channel(store.name), stored.id, hosts, item, OUTBOX_LENGTH)
    first = store.partitions[0]
    await store.queue.run(script("tell_site"), (first.out, first.site_changes), arguments)


async def _point(store: RegionStore, host: str, site_id: str, claim: int) -> None:
    """Let a host belong to a site, unless another one that still lists it came to it later."""
    for _ in range(_ATTEMPTS):
        held: bytes = await store.queue.run(script("point_domain"), (domain_key(host),), (claim, site_id))
        number, holder = _pointed(held)
        if holder == site_id or await _claim_of(store, holder, host) == number:
            return
        await store.queue.run(script("free_domain"), (domain_key(host),), (held,))


async def _leave(store: RegionStore, site_id: str, hosts: Collection[str]) -> None:
    """Give up hosts: each goes to the site that came to it last of those that still list it."""
    if not hosts:
        return
    others = [stored for stored in await read_all(store) if stored.id != site_id]
    for host in hosts:
        held = await store.queue.command("GET", domain_key(host))
        if held is None or _pointed(held)[1] != site_id:
            continue
        await store.queue.run(script("free_domain"), (domain_key(host),), (held,))
        for other in others:
            if host in other.claims:
                await _point(store, host, other.id, other.claims[host])


async def _claim_of(store: RegionStore, site_id: str, host: str) -> int | None:
    octets = await store.queue.command("GET", site_key(site_id))
    try:
        return None if octets is None else parse_stored(site_id, octets).claims.get(host)
    except RecordError:
        return None


async def _forget(store: RegionStore, site_id: str) -> None:
    """Leave a site out of the index when even its deletion is forgotten."""
    newest = int((store.now() - DELETED_SECONDS) * 1000)
    await store.queue.run(script("forget_site"), (SITES,), (site_id, newest))


def _pointed(pointer: bytes) -> tuple[int, str]:
    """The claim and the id in a pointer; what is none names no site."""
    claim, _, site_id = pointer.partition(b"|")
    return (int(claim), site_id.decode("ascii", "replace")) if claim.isdigit() else (0, "")


def _hosts_of(site_id: str, octets: bytes) -> set[str]:
    try:
        return set(parse_stored(site_id, octets).claims) if octets else set()
    except CorruptRecordError:
        return set()


def _chunks(items: Sequence[Any]) -> Iterable[Any]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
