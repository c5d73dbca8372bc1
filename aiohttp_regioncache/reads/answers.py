"""The responses that a read is answered with."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from multidict import MutableMultiMapping

from ..exchange import Exchange
from ..overlay import Fold
from ..problems import problem
from ..records import CacheRecord
from ..responses import CACHE_STATUS, cache_name, respond, unmodified
from ..semantics import conditional
from ..semantics.cache_status import cache_status
from ..semantics.fields import Headers, remove
from ..semantics.freshness import Judgement, Verdict
from ..tags import DirtyTag
from .featured import is_mixed
from .parts import cut
from .snapshot import Snapshot

# What was true of the origin's bytes and is not of folded ones.
_ORIGINAL_ONLY = (
    "set-cookie", "etag", "last-modified", "digest", "content-digest", "repr-digest", "content-md5", "content-encoding",
    "content-length", "age", "date", "accept-ranges", "content-type", "cache-status",
)  # fmt: skip
_GOVERNS_CACHES = frozenset({"expires", "pragma", "surrogate-control", "x-accel-expires"})


def stored(exchange: Exchange, record: CacheRecord, age: float, status: str) -> web.Response:
    """Answer from a stored response, with 304 where the client has it already (RFC 9110 section 13.2)."""
    extra = [("Age", str(max(0, int(age)))), (CACHE_STATUS, status)]
    saved = Snapshot(
        record.status, record.reason.decode("latin-1"), tuple(remove(record.headers, ("age",))), record.body
    )
    return conditionally(exchange, saved, extra, response_time=record.response_time)


def conditionally(
    exchange: Exchange,
    snapshot: Snapshot,
    extra: Iterable[tuple[str, str]],
    *,
    response_time: float | None = None,
) -> web.Response:
    """Answer with a response, the range of it that is asked for, or 304 when the client has it (RFC 9110 13.2.2)."""
    method = exchange.request.method
    if conditional.not_modified(
        method, exchange.headers, snapshot.status, snapshot.headers, response_time=response_time
    ):
        return unmodified(snapshot.headers, extra=extra)
    cuts = exchange.asks_range and not is_mixed(exchange, snapshot)
    piece = cut(method, exchange.headers, snapshot) if cuts else snapshot
    return respond(piece.status, piece.reason, piece.headers, piece.body, extra=extra)


def hit_status(region: str, judgement: Judgement, detail: str | None = None) -> str:
    """`Cache-Status` of a hit (RFC 9211)."""
    return cache_status(cache_name(region), hit=True, ttl=judgement.ttl, detail=detail)


def folded(
    exchange: Exchange, region: str, fold: Fold, base_headers: Headers, *, fwd: str | None = None
) -> web.Response:
    """Answer with what a fold came to, which the origin has not confirmed yet; `fwd`: why it was asked for the base."""
    status = cache_status(cache_name(region), hit=fwd is None, fwd=fwd, detail="dirty")
    representation = fold.representation
    if representation is None:
        return _gone(exchange, status)
    headers = [
        *(pair for pair in remove(base_headers, _ORIGINAL_ONLY) if not _governs_caches(pair[0])),
        ("Content-Type", representation.content_type),
        ("ETag", DirtyTag.of(fold.last, fold.first).etag(representation)),
        ("Cache-Control", "private, no-store"),
    ]
    return conditionally(exchange, Snapshot(200, "OK", tuple(headers), representation.body), [(CACHE_STATUS, status)])


def folded_over(exchange: Exchange, region: str, fold: Fold, base: CacheRecord | None) -> web.Response:
    """Answer with what a fold over a stored entry came to."""
    return folded(exchange, region, fold, base.headers if base is not None else ())


def stale_detail(exchange: Exchange, judgement: Judgement) -> str | None:
    """Why a stale response is served; None for a fresh one."""
    if judgement.verdict is not Verdict.STALE_USABLE:
        return None
    return "stale-while-revalidate" if exchange.terms.max_stale is None else "max-stale"


def _gone(exchange: Exchange, status: str) -> web.Response:
    """Answer for a resource whose deletion the origin has not confirmed yet."""
    response = problem(404, "Not Found", "The resource is deleted.", instance=exchange.target.path)
    response.headers["Cache-Control"] = "private, no-store"
    response.headers[CACHE_STATUS] = status
    return response


def not_cached(region: str | None) -> web.Response:
    """Answer `only-if-cached` when nothing usable is stored (RFC 9111 section 5.2.1.7)."""
    response = problem(504, "Gateway Timeout", "Nothing usable is stored, and the request allows nothing else.")
    response.headers[CACHE_STATUS] = cache_status(cache_name(region), fwd=None, detail="only-if-cached")
    return response


def not_for_storage(response: web.StreamResponse) -> web.StreamResponse:
    """Keep an answer that lacks its reader's own pending writes out of every cache."""
    if not response.prepared:
        keep_out_of_caches(response.headers)
    return response


def keep_out_of_caches(headers: MutableMultiMapping[str]) -> None:
    """Let no cache store what these fields head, whatever fields of its own it goes by."""
    for name in {name for name in headers if _governs_caches(name)}:
        headers.popall(name)
    headers["Cache-Control"] = "private, no-store"


def _governs_caches(name: str) -> bool:
    """Whether a field tells some cache how to store: also targeted ones such as `CDN-Cache-Control` (RFC 9213)."""
    lowered = name.lower()
    return lowered.endswith("cache-control") or lowered in _GOVERNS_CACHES


def may_lack_pending(response: web.StreamResponse) -> web.StreamResponse:
    """Admit that writes may be missing which wait in a region that cannot be reached now."""
    if not response.prepared:
        admit_unreachable(response.headers)
    return response


def admit_unreachable(headers: MutableMultiMapping[str]) -> None:
    """Say in the fields of an answer that has our `Cache-Status` that pending writes may be missing."""
    if CACHE_STATUS not in headers:
        return
    *others, ours = headers.popall(CACHE_STATUS)
    for value in (*others, f"{ours.partition('; detail=')[0]}; detail=behind-unreachable"):
        headers.add(CACHE_STATUS, value)
    keep_out_of_caches(headers)
