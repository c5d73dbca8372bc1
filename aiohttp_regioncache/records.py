"""The stored forms of requests and responses, in MessagePack. Pure.

Every record is array-like and begins with the version of its layout; fields are only ever appended. Names and
values of header fields are octets as on the wire, in their order, duplicates kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from .errors import CorruptRecordError, UnreadableRecordError
from .semantics.freshness import Terms
from .semantics.vary import NOTHING_KNOWN, Known

VERSION: Final = 1
"""Version of the layout that this package writes, and the newest that it reads."""

WirePairs = tuple[tuple[bytes, bytes], ...]

NO_TERMS: Final = Terms(lifetime=0.0, no_cache=True, must_revalidate=True, swr=0.0, sie=0.0)
"""Those of a response that is never reused without validation."""


def to_wire(headers: Iterable[tuple[str, str]]) -> WirePairs:
    """Turn header fields of text into octets; aiohttp's surrogates become the octets they stand for."""
    return tuple(
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in headers
    )


def from_wire(headers: WirePairs) -> list[tuple[str, str]]:
    """Turn stored header fields into text, the reverse of `to_wire`."""
    return [
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")) for name, value in headers
    ]


class CacheRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One stored response of a resource.

    It holds what the request needs to be sent again, without credentials, and the response as the origin gave it.
    `vary` alone, with status 0, is the marker of a resource that varies: the fields that select its entries.
    `response_time` is the region's clock, seconds since the epoch; `initial_age` seconds (RFC 9111 section 4.2.3);
    `token` and `asof` say which state of the resource it belongs to; `owner` is the principal of a private entry.
    `tags` are the groups that the origin put it in; `purge` the newest purge of its region when it was asked for;
    `cost` the seconds that the fetch took. `known` is what a marker knows of the fields that select the entries.
    """

    version: int = VERSION
    url: str
    method: str = "GET"
    request_headers: WirePairs = ()
    vary: tuple[str, ...] = ()
    token: str = ""
    asof: int = 0
    status: int = 0
    reason: bytes = b""
    headers: WirePairs = ()
    body: bytes = b""
    terms: Terms = NO_TERMS
    initial_age: float = 0.0
    response_time: float = 0.0
    owner: str = ""
    tags: tuple[str, ...] = ()
    purge: int = 0
    cost: float = 0.0
    known: Known = NOTHING_KNOWN

    @property
    def is_marker(self) -> bool:
        """Whether this only names the fields that select the entries."""
        return self.status == 0


class WriteRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One accepted write, replayable as it came, and what it does to a representation.

    `endpoint` is the request target at the origin (path and query). `url` is the URI whose representation
    `effect` changes: the target, or for the copy that stands with an affected resource that resource's URI.
    `body_stored` says that the body is in a key of its own and `body` is empty. `accepted` is milliseconds of
    the region's clock. `affected` are the digests of the other resources that the write touches. `bulk` is the
    endpoint that takes it together with others. `on_dead` is `block`, `skip` or empty. `chained` says that its
    `If-Match` names a state that was pending when it was accepted. `durability` as in the rule.
    `idempotency` is the hash that the client's key is known by, or empty.
    """

    version: int = VERSION
    id: str
    site: str
    url: str
    endpoint: str
    method: str
    headers: WirePairs = ()
    body: bytes = b""
    body_stored: bool = False
    principal: str
    shared: bool = False
    effect: str = "unknown"
    path: str
    group: str
    affected: tuple[str, ...] = ()
    idempotency_key: str = ""
    accepted: int = 0
    max_tries: int = 0
    max_age: float = 0.0
    repeatable: bool = True
    bulk: str = ""
    coalesce: bool = False
    on_dead: str = ""
    chained: bool = False
    durability: str = "memory"
    idempotency: str = ""


_encode = msgspec.msgpack.Encoder().encode
_cache_decoder = msgspec.msgpack.Decoder(CacheRecord)
_write_decoder = msgspec.msgpack.Decoder(WriteRecord)
_any_decoder = msgspec.msgpack.Decoder()

# What msgspec raises for bytes that are no record: no MessagePack, text that is no UTF-8, nesting without end.
_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode(record: CacheRecord | WriteRecord) -> bytes:
    """Write a record as MessagePack."""
    return _encode(record)


def decode_cache_record(data: bytes) -> CacheRecord | None:
    """Read a stored response; None, a miss, for anything that is none of this version."""
    try:
        record = _cache_decoder.decode(data)
    except _UNDECODABLE:
        return None
    return record if record.version == VERSION else None


def decode_write_record(data: bytes) -> WriteRecord:
    """Read a stored write.

    Raises `UnreadableRecordError` for one that a newer version wrote (another edge can read it) and
    `CorruptRecordError` for bytes that no version wrote.
    """
    try:
        record = _write_decoder.decode(data)
    except _UNDECODABLE as error:
        if _stored_version(data) > VERSION:
            raise UnreadableRecordError(f"a write of layout {_stored_version(data)}") from None
        raise CorruptRecordError(str(error)) from None
    if record.version > VERSION:
        raise UnreadableRecordError(f"a write of layout {record.version}")
    if record.version < 1:
        raise CorruptRecordError(f"a write of layout {record.version}")
    return record


def _stored_version(data: bytes) -> int:
    try:
        fields = _any_decoder.decode(data)
    except _UNDECODABLE:
        return 0
    version = fields[0] if isinstance(fields, list) and fields else 0
    return version if isinstance(version, int) else 0
