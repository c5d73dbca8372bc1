"""What operators do with sites: list, show, put, delete. Any region will do; it tells the others."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from ..errors import CorruptRecordError, RecordError, RegionUnavailableError, SiteBusyError, UnknownSiteError
from ..site import Site, is_site_id, normalize_host
from ..store import sites
from ..store.outbox import announce_site
from ..store.region import RegionStore
from ..store.sites import StoredSite
from .forms import export_sites, import_sites

__all__ = ["delete_site", "export_sites", "get_site", "import_sites", "list_sites", "put_site"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def list_sites(store: RegionStore) -> list[Site]:
    """List a region's sites by their domain. Raises `RegionUnavailableError`.

    Those that cannot be read here are left out, with a message in the log.
    """
    found: list[Site] = []
    for stored in await sites.read_all(store):
        try:
            site = stored.read()
        except RecordError as error:
            logger.error("region %s: %s", store.name, error)
            continue
        if site is not None:
            found.append(site)
    return sorted(found, key=lambda site: (site.domain, site.id))


async def get_site(store: RegionStore, domain_or_id: str) -> Site | None:
    """Find the site that has a host, also through a wildcard, or else the one with this id; None without one.

    Raises `RegionUnavailableError`, and `RecordError` for a site that cannot be read.
    """
    host = normalize_host(domain_or_id, wildcard=True)
    stored = await sites.find_stored(store, host) if host is not None else None
    if stored is None and is_site_id(domain_or_id):
        stored = await sites.read_stored(store, domain_or_id)
    return None if stored is None else stored.read()


async def put_site(stores: Sequence[RegionStore], site: Site) -> Site:
    """Store a site, new or under the id of one that is there; give it with its id and revision.

    The first region that can be reached does it and tells the others. The revision is the time of that region's clock
    in milliseconds, and more than that of `site` and of what is there. A host that another site has goes to this one,
    unless this one had it before already.

    Raises `RegionUnavailableError` when no region can be reached (it may have been stored all the same; the same may be
    tried again), and `UnreadableRecordError` when a newer version wrote the site.
    """
    site_id = site.id or secrets.token_hex(8)

    async def put(store: RegionStore) -> Site:
        before = await _known(store, site_id)
        record = sites.encode_site(site, before)
        stored = await sites.put_record(store, site_id, record, announce_site, least=site.revision + 1)
        return msgspec.structs.replace(site, id=site_id, revision=stored.revision)

    return await _in_first(stores, put)


async def delete_site(stores: Sequence[RegionStore], site_id: str) -> None:
    """Delete a site in the first region that can be reached, which tells the others.

    Raises `SiteBusyError` while it has pending writes in a region that can be reached, also when one has come in
    between: then the site is there as before. Raises `UnknownSiteError`, and `RegionUnavailableError` when no region
    can be reached.
    """
    await _check_idle(stores, site_id)

    async def delete(store: RegionStore) -> StoredSite:
        before = await _known(store, site_id)
        if before is None or before.record is None:
            raise UnknownSiteError(site_id)
        await sites.put_record(store, site_id, b"", announce_site, least=before.revision + 1)
        return before

    before = await _in_first(stores, delete)
    try:
        await _check_idle(stores, site_id)
    except SiteBusyError:
        await _in_first(stores, lambda store: _restore(store, before))
        raise


async def _restore(store: RegionStore, before: StoredSite) -> None:
    record = before.octets.partition(b"|")[2]
    await sites.put_record(store, before.id, record, announce_site, least=before.revision + 1)


async def _known(store: RegionStore, site_id: str) -> StoredSite | None:
    """What there is of a site, if it may be overwritten: a later version's may not, what no version wrote may."""
    try:
        stored = await sites.read_stored(store, site_id)
        if stored is not None:
            stored.read()
    except CorruptRecordError:
        return None
    return stored


async def _check_idle(stores: Sequence[RegionStore], site_id: str) -> None:
    counts = await asyncio.gather(*(_pending(store, site_id) for store in stores))
    for store, count in zip(stores, counts, strict=True):
        if count:
            raise SiteBusyError(site_id, store.name, count)


async def _pending(store: RegionStore, site_id: str) -> int:
    try:
        return await sites.pending_writes(store, site_id)
    except RegionUnavailableError as error:
        logger.warning("%s: whether writes are pending there is not known", error)
        return 0


async def _in_first(stores: Sequence[RegionStore], act: Callable[[RegionStore], Awaitable[T]]) -> T:
    """Act in the first region that can be reached. Raises the last one's `RegionUnavailableError`."""
    *others, last = stores
    for store in others:
        try:
            return await act(store)
        except RegionUnavailableError as error:
            logger.debug("not done: %s", error)
    return await act(last)
