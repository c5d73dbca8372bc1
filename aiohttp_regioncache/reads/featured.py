"""Responses that the features of a site change: what is asked of the origin, and what is stored."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..exchange import Exchange
from ..features import own_names
from ..records import CacheRecord, from_wire
from ..semantics.directives import response_directives
from ..semantics.fields import Headers, first, remove, values
from ..semantics.vary import coding_of
from ..transforms.runner import Transformer, Worked, weak

_OWN_VARY = "Regioncache-Vary"
# What the origin says of its own bytes, and is not true of those that were made of them.
_OF_THE_BYTES = frozenset(
    {"content-type", "content-encoding", "vary", "content-md5", "digest", "content-digest", "repr-digest",
     "accept-ranges", "content-length"}
)  # fmt: skip


def for_origin(exchange: Exchange, headers: CIMultiDict[str]) -> web.Request:
    """Make the request for the origin: without what is for features, and for a plain body where they need one.

    An answer to credentials is most likely not stored, nothing is done to it then: it may come coded.
    """
    if exchange.features.needs_plain and not exchange.has_credentials:
        headers["Accept-Encoding"] = "identity"
    target = exchange.features.target(exchange.target)
    if target.query == exchange.target.query:
        return exchange.request.clone(headers=headers)
    path = exchange.request.rel_url.raw_path
    url = URL(f"{path}?{target.query}" if target.query else path, encoded=True)
    return exchange.request.clone(headers=headers, rel_url=url)


def is_affected(record: CacheRecord) -> bool:
    """Whether features may change a response."""
    return bool(own_names(record.vary))


async def worked(exchange: Exchange, record: CacheRecord, transformer: Transformer) -> Worked:
    """Do to a response what features are to do, and say of it what caches behind us must know.

    One that forbids it (RFC 9110 section 7.7), or is coded or no 200, stays as it is.
    """
    headers = from_wire(record.headers)
    steps = exchange.features.steps(exchange.asked, headers)
    is_free = record.status == 200 and not coding_of(headers) and not response_directives(headers).has("no-transform")
    done = Worked(headers, record.body)
    if steps and is_free and record.body:
        done = await transformer.run(steps, record.url, headers, record.body)
    return done._replace(headers=_varying(done.headers, exchange.features.varies_on(headers)))


def _varying(headers: Headers, names: tuple[str, ...]) -> Headers:
    """Say downstream what a response depends on by our doing; what the origin said of that is kept for ourselves."""
    lines = values(headers, "vary")
    said = {name.strip().lower() for line in lines for name in line.split(",")}
    more = [name for name in names if name.lower() not in said]
    own = values(headers, _OWN_VARY.lower()) or lines
    kept = remove(headers, ("vary", _OWN_VARY.lower()))
    told = ", ".join([*lines, *more])
    return [*kept, *([("Vary", told)] if told else []), (_OWN_VARY, ", ".join(own))]


def news(stored: Headers, told: Headers) -> Headers:
    """What the fields of a 304 say of a stored response that features may have changed; all of any other."""
    if not _is_featured(stored):
        return told
    return remove(told, (*_OF_THE_BYTES, *(("etag",) if _is_same_tag(stored, told) else ())))


def head_of(stored: Headers, told: Headers) -> Headers:
    """What the answer to a HEAD says that can be compared with such a response."""
    if not _is_featured(stored):
        return told
    compared = remove(told, (*_OF_THE_BYTES, "etag"))
    tag = first(told, "etag")
    if tag is not None:
        compared.append(("ETag", first(stored, "etag") or "" if _is_same_tag(stored, told) else tag))
    return compared


def _is_featured(stored: Headers) -> bool:
    return first(stored, _OWN_VARY.lower()) is not None


def _is_same_tag(stored: Headers, told: Headers) -> bool:
    """Whether two tags are the same by weak comparison (RFC 9110 section 8.8.3.2)."""
    ours, theirs = first(stored, "etag"), first(told, "etag")
    return ours is not None and theirs is not None and weak(ours) == weak(theirs)
