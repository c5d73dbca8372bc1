"""Responses that the features of a site change: what is asked of the origin, and what is stored."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..exchange import Exchange
from ..features import own_names
from ..records import CacheRecord
from ..semantics.directives import response_directives
from ..semantics.fields import Headers, first, remove, values
from ..semantics.ranges import is_by_date
from ..semantics.vary import coding_of
from ..transforms.runner import Transformer, Worked, mark_of, weak, without_mark
from .snapshot import Snapshot

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
    headers = record.headers
    steps = exchange.features.steps(exchange.asked, headers)
    # Also what signals add to `Vary`, and that a coded body must not reach who does not accept it.
    own = values(headers, _OWN_VARY.lower()) or record.vary[len(own_names(record.vary)) :]
    is_free = record.status == 200 and not coding_of(headers) and not response_directives(headers).has("no-transform")
    done = Worked(headers, record.body)
    if steps and is_free and record.body:
        done = await transformer.run(steps, record.url, headers, record.body)
    return done._replace(headers=_varying(done.headers, exchange.features.varies_on(headers), own))


def _varying(headers: Headers, names: Sequence[str], own: Sequence[str]) -> Headers:
    """Say downstream what a response depends on by our doing; what the origin said of that is kept for ourselves."""
    lines = values(headers, "vary")
    said = _listed(lines)
    more = [name for name in names if name.lower() not in said]
    kept = remove(headers, ("vary", _OWN_VARY.lower()))
    told = ", ".join([*lines, *more])
    return [*kept, *([("Vary", told)] if told else []), (_OWN_VARY, ", ".join(own))]


def is_mixed(exchange: Exchange, snapshot: Snapshot) -> bool:
    """Whether a part may belong to other bytes than the client has, who names them by a date.

    The date is that of the origin's bytes and of all that features made of them.
    """
    return is_by_date(exchange.headers) and bool(exchange.features.names_for(snapshot.headers))


def _listed(lines: Sequence[str]) -> set[str]:
    return {name.strip().lower() for line in lines for name in line.split(",")}


def is_forbidden_now(stored: Snapshot | None, confirmed: Snapshot) -> bool:
    """Whether the origin, which confirms a stored response, forbids what features may have made of it before."""
    if stored is None or not _is_featured(stored.headers):
        return False
    was, now = response_directives(stored.headers), response_directives(confirmed.headers)
    return now.has("no-transform") and not was.has("no-transform")


def as_given(stored: Headers) -> Headers:
    """The fields of a stored response with the tag that the origin knows it by."""
    tag = first(stored, "etag")
    if tag is None or not mark_of(tag) or not _is_featured(stored):
        return stored
    return [*remove(stored, ("etag",)), ("ETag", without_mark(tag))]


def news(stored: Headers, told: Headers) -> Headers:
    """What the fields of a 304 say of a stored response that features may have changed; all of any other."""
    if not _is_featured(stored):
        return told
    kept = remove(told, (*_OF_THE_BYTES, "etag"))
    tag, lines = first(told, "etag"), values(told, "vary")
    if tag is not None and not _is_same_tag(stored, told):
        mark = mark_of(first(stored, "etag") or "")
        kept.append(("ETag", f'{weak(tag)[:-1]}{mark}"'))  # the origin's bytes may be others
    if not lines:
        return kept
    # One that the origin has coded stays so.
    is_coded = bool(coding_of(stored)) and "accept-encoding" in _listed(values(stored, _OWN_VARY.lower()))
    own = values(told, _OWN_VARY.lower()) or [*lines, *(["Accept-Encoding"] if is_coded else [])]
    said = [name.strip() for line in values(stored, "vary") for name in line.split(",")]
    return _varying([*kept, *(("Vary", line) for line in lines)], [name for name in said if name], own)


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
    return ours is not None and theirs is not None and without_mark(ours) == weak(theirs)
