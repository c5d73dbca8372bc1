"""One request and everything that has been found out about it."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict, CIMultiDictProxy

from .features import NO_FEATURES, Asked, FeatureSet, own_names
from .forwarded import scheme_of, with_forwarded
from .keying import Parts
from .keys import Resource, SiteKey, Target
from .principal import Principal
from .records import CacheRecord, WirePairs, to_wire
from .regions import TrustedProxies
from .rules import CompiledRule
from .semantics.fields import Headers, first, remove
from .semantics.freshness import Policy
from .semantics.methods import is_safe
from .semantics.requests import RequestTerms
from .served import ServedSite
from .store.region import RegionStore

SERVED_SITE: Final = web.RequestKey("regioncache_site", ServedSite)
"""Where a request keeps the `ServedSite` that it belongs to."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asker(msgspec.Struct, frozen=True):
    """Who a request comes from, as far as it is known for sure.

    `peer` is the address of the connection, None for a unix socket; `scheme` what the user's request came with.
    """

    peer: str | None
    is_trusted: bool
    scheme: str

    @classmethod
    def of(cls, request: web.Request, trusted: TrustedProxies) -> Asker:
        """Find out who asks; the forwarding fields of a peer that is not trusted say nothing."""
        peer = peer_of(request)
        is_trusted = trusted.trusts(peer)
        scheme = request.scheme
        if is_trusted:
            scheme = scheme_of(scheme, list(request.headers.items()))
        return cls(peer, is_trusted, scheme)

    def told(self, headers: Headers, method: str, host: str) -> Headers:
        """The fields of a request to `host` with those that tell an origin who asks."""
        return with_forwarded(
            headers,
            peer=self.peer or "",
            host=host,
            scheme=self.scheme,
            is_trusted=self.is_trusted,
            is_safe=is_safe(method),
        )


def peer_of(request: web.Request) -> str | None:
    """The peer's address; None for a unix socket. Never the forwarded one."""
    transport = request.transport
    if transport is None:
        return ""
    peer = transport.get_extra_info("peername")
    return peer[0] if isinstance(peer, tuple) and peer else None


ASKER: Final = web.RequestKey("regioncache_asker", Asker)
"""Where a request keeps who asked: of a connection that is gone nothing can be found out any more."""


MATCH: Final = web.RequestKey("regioncache_match", web.UrlMappingMatchInfo)
"""Where a request keeps its route as it was found, if no other middleware sees the request before ours."""


def keep_match(request: web.Request) -> None:
    """Remember the route of a request for its plan: handlers and whoever hears of the answer may write into its own."""
    match = request.match_info
    if type(match) is web.UrlMappingMatchInfo:
        request[MATCH] = copy.copy(match)


def match_of(request: web.Request) -> web.UrlMappingMatchInfo | None:
    """The route of a request, if plans of it may be followed before that is looked for."""
    return request.get(MATCH)


class Said:
    """What the fields of a request say, found out once for all requests with the same ones.

    `headers` as in `Inquiry`, `came` as they came. `has_pin`: they may name the region of the bearer's writes.
    `principals` are those that they name by site and source, `stores` the regions for where they come from, once that
    is known, and `told` what an origin is told for them, by whom it is told for and its size.
    """

    __slots__ = ("came", "has_pin", "headers", "principals", "stores", "terms", "told")

    def __init__(self, came: Headers, headers: Headers, terms: RequestTerms, *, has_pin: bool) -> None:
        self.came = came
        self.headers = headers
        self.terms = terms
        self.has_pin = has_pin
        self.stores: tuple[RegionStore, ...] | None = None
        self.principals: dict[tuple[str, str | None], Principal] = {}
        self.told: dict[tuple[object, ...], tuple[WirePairs, int]] = {}


class Inquiry(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, apart from the connection that it came over: its site, target, rule and principal.

    `headers` are the end-to-end ones but our own marks.
    `cached_as` is the target as keys see it, without what the rule of its reads does not count, and `key_parts` what
    that rule adds to them. `has_credentials`: the answer may be meant for its principal alone.
    `touching`: the rules whose writes behind can change what the target shows.
    """

    method: str
    headers: Headers
    served: ServedSite
    target: Target
    cached_as: Target
    key_parts: Parts
    resource: Resource
    rule: CompiledRule | None
    policy: Policy
    terms: RequestTerms
    principal: Principal
    has_credentials: bool
    touching: tuple[CompiledRule, ...]

    @property
    def site(self) -> SiteKey:
        """The part of the site that is in every key."""
        return self.served.key

    @property
    def features(self) -> FeatureSet:
        """What is done to answers. Writes are folded over what the origin says, so nothing is where they may be."""
        return NO_FEATURES if self.touching else self.served.features

    @property
    def asked(self) -> Asked:
        """What features may go by."""
        return Asked(self.headers, self.target.path, self.target.query)

    @property
    def selecting_headers(self) -> Headers:
        """The fields that may select among responses: those of the request, and what each feature would do for it."""
        return [*self.headers, *self.features.selectors(self.asked)] if self.features else self.headers

    def is_current(self, record: CacheRecord) -> bool:
        """Whether a stored response was made under the features that there are now."""
        names = own_names(record.vary)
        if not names and not self.features:
            return True
        return names == self.features.names_for(record.headers)

    @property
    def touched(self) -> bool:
        """Whether a write behind can change what the target shows."""
        return bool(self.touching)

    @property
    def owner(self) -> str:
        """The principal under whose own key entries are stored, or empty for entries that all share."""
        per_user = self.rule is not None and self.rule.rule.per_user
        # Credentials other than those that the rule names make nobody one user.
        known = self.has_credentials and not self.principal.is_anonymous
        return self.principal.id if per_user and known else ""

    @property
    def dirty_wait(self) -> float | None:
        """The `dirty_wait` of the request's rule, or else of a rule whose writes touch the target; seconds."""
        rules = (self.rule, *self.touching)
        return next((rule.rule.dirty_wait for rule in rules if rule and rule.rule.dirty_wait is not None), None)


class Exchange(Inquiry, frozen=True, kw_only=True):
    """A request with what it asks for.

    `said` is what its fields say. `resource_at` makes the resource that a path is for the principal. `stores` are the
    regions in the order in which they are asked, `is_pinned` when the bearer has written to the first. `chance` is
    drawn evenly from (0, 1]: what is left to chance is decided once for a request.
    """

    request: web.Request
    said: Said
    asker: Asker
    resource_at: Callable[[str], Resource]
    stores: tuple[RegionStore, ...]
    is_pinned: bool
    chance: float

    @property
    def asks_range(self) -> bool:
        """Whether the request asks for a part of the representation."""
        return "Range" in self.request.headers


MAX_KEY: Final = 255
"""Characters of the longest `Idempotency-Key` accepted."""


def idempotency_key(request: web.Request) -> str | None:
    """Read the client's idempotency key; None without one. Raises `ValueError` for what is no one key."""
    keys = request.headers.getall("Idempotency-Key", [])
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= MAX_KEY:
        raise ValueError(f"Idempotency-Key must be one key of 1 to {MAX_KEY} characters.")
    return keys[0]


def fingerprint_of(request: web.Request, body: bytes) -> str:
    """A hash of what a request says beside its target: two of one idempotency key are the same when theirs is."""
    content_type = request.headers.get("Content-Type", "").encode("utf-8", "surrogateescape")
    return hashlib.sha256(content_type + b"\n" + body).hexdigest()


async def read_body(request: web.Request, limit: int) -> bytes:
    """Read a body within `limit` bytes of our own, which need not be the application's limit.

    Raises `web.HTTPRequestEntityTooLarge` beyond it, and `web.RequestPayloadError` or `ContentEncodingError` for a body
    that is not what its fields say.
    """
    length = request.content_length
    is_plain = "Content-Encoding" not in request.headers
    if is_plain and length is not None and length <= min(limit, request.client_max_size):
        return await request.read()
    try:
        return await request.clone(client_max_size=limit).read()
    except RuntimeError:  # an outer middleware has read it already
        body = await request.read()
    if len(body) > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=len(body))
    return body


def body_at_hand(request: web.Request) -> bytes | None:
    """The body of a request if it is there as a whole; None while it is still coming."""
    if request._read_bytes is None:
        body = _only_piece(request)
        if body is None:
            content = request.content
            if not content.is_eof() or content.exception() is not None:
                return None
            body = content.read_nowait()
        request._read_bytes = body
    return request._read_bytes


def _only_piece(request: web.Request) -> bytes | None:
    """A body that came in one piece, as it lies there; None for another, or where aiohttp keeps it in another way.

    To read it would have aiohttp look for more to parse, which there is none of unless reading was paused.
    """
    content: Any = request._payload
    protocol: Any = request._protocol
    try:
        pieces = content._buffer
        is_there = content._eof and content._exception is None and not content._buffer_offset
        if is_there and pieces and len(pieces[0]) == content.total_bytes and not protocol._reading_paused:
            only: bytes = pieces.popleft()
            return only
    except AttributeError:
        pass
    return None


def with_body(request: web.Request, headers: CIMultiDict[str], body: bytes) -> web.Request:
    """Make the request with other fields, for a handler that is to read the body once more.

    `web.Request.clone` makes none of a request that has been read, nor of fields that are no UTF-8.
    """
    again = copy.copy(request)
    again._headers = proxy = CIMultiDictProxy(headers)
    again._message = request._message._replace(headers=proxy, raw_headers=to_wire(headers.items()))
    again._cache = {name: value for name, value in request._cache.items() if name != "headers"}
    again._read_bytes = body
    return again


def apart(request: web.Request) -> web.Request:
    """Make the same request with a writer of its own, for responses that are given up before their heads go out.

    aiohttp notes at the writer how a body is to be sent before anybody is asked, and the request's own may be at work.
    """
    again = copy.copy(request)
    again._payload_writer = StreamWriter(request.protocol, asyncio.get_running_loop())
    return again


def as_before(request: web.Request) -> None:
    """Forget at the writer of a request the response that was given up before its head went out."""
    writer = request.writer
    if isinstance(writer, StreamWriter):
        writer.chunked, writer.length, writer._compress = False, None, None


_DECODED_CODINGS: Final = frozenset({"gzip", "deflate", "br", "zstd"})


def described_body(headers: Headers) -> Headers:
    """The fields of a request as its body is read: aiohttp's server decodes these codings and leaves the fields."""
    coding = first(headers, "content-encoding")
    if coding is None or coding.strip().lower() not in _DECODED_CODINGS:
        return headers
    return remove(headers, ("content-encoding", "content-length"))
