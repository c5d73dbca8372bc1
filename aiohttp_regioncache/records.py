"""The stored forms of requests and responses, in MessagePack. Pure.

Every record is array-like and begins with the version of its layout; fields are only ever appended. Names and
values of header fields are octets as on the wire, in their order, duplicates kept. Those of responses are kept as the
lines that go out, so that a hit sends them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntFlag
from typing import Final, NamedTuple

import msgspec

from .errors import CorruptRecordError, UnreadableRecordError
from .semantics.directives import OWN_FIELDS
from .semantics.fields import Headers
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


_NEVER_SENT: Final = frozenset({"age", "content-length", "transfer-encoding", *OWN_FIELDS})
"""Fields of stored responses that are not sent as they are: what we say ourselves, and what is for us alone."""
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class FieldLines(NamedTuple):
    """The fields of a response as lines that end with CRLF: those that are `sent`, and those that are `held` back."""

    sent: bytes
    held: bytes


def to_lines(headers: Headers) -> FieldLines:
    """Write fields as lines, octets as in `to_wire`. Raises `ValueError` for one that would be more than its line."""
    sent: list[bytes] = []
    held: list[bytes] = []
    for name, value in headers:
        line = f"{name}: {value}".encode("utf-8", "surrogateescape")
        if _CONTROLS.search(line) or ": " in name:
            raise ValueError(f"the field {name!r} holds control characters")
        (held if name.lower() in _NEVER_SENT else sent).append(line + b"\r\n")
    return FieldLines(b"".join(sent), b"".join(held))


def from_lines(lines: bytes) -> list[tuple[str, str]]:
    """Read fields from their lines; what is none is left out."""
    texts = lines.decode("utf-8", "surrogateescape").split("\r\n")
    pairs = (text.partition(": ") for text in texts)
    return [(name, value) for name, colon, value in pairs if colon]


class Form(IntFlag):
    """What is known of the lines of a response before they are looked at: whether they can go out as they are."""

    PLAIN = 1  # nothing that aiohttp would add, or write in another way, but a length and the name of the server
    NAMES_SERVER = 2


_ADDED_ELSE: Final = re.compile(rb"^(?:content-type|date): .", re.IGNORECASE | re.MULTILINE)
_SERVER: Final = re.compile(rb"^server: ", re.IGNORECASE | re.MULTILINE)
_WITHOUT_BODY: Final = frozenset({204, 205, 206, 304})


def form_of(status: int, reason: str, sent_lines: bytes) -> int:
    """Look at the status line and the lines of a response once, when it is stored."""
    form = Form(0)
    found = {match[0][:4].lower() for match in _ADDED_ELSE.finditer(sent_lines)}
    is_whole = status >= 200 and status not in _WITHOUT_BODY
    if is_whole and reason and reason.isascii() and sent_lines.isascii() and found == {b"cont", b"date"}:
        form |= Form.PLAIN
    if _SERVER.search(sent_lines):
        form |= Form.NAMES_SERVER
    return int(form)


class CacheRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One stored response of a resource.

    It holds what the request needs to be sent again, without credentials, and the response as the origin gave it.
    The `..._lines` hold fields as in `FieldLines`; `form` is a `Form`.
    `vary` alone, with status 0, is the marker of a resource that varies: the fields that select its entries.
    `response_time` is the region's clock, seconds since the epoch; `initial_age` seconds (RFC 9111 section 4.2.3);
    `token` and `asof` say which state of the resource it belongs to; `owner` is the principal of a private entry.
    `tags` are the groups that the origin put it in; `purge` the newest purge of its region when it was asked for;
    `cost` the seconds that the fetch took. `known` is what a marker knows of the fields that select the entries.
    """

    version: int = VERSION
    url: str
    method: str = "GET"
    request_lines: bytes = b""
    vary: tuple[str, ...] = ()
    token: str = ""
    asof: int = 0
    status: int = 0
    reason: bytes = b""
    sent_lines: bytes = b""
    held_lines: bytes = b""
    body: bytes = b""
    terms: Terms = NO_TERMS
    initial_age: float = 0.0
    response_time: float = 0.0
    owner: str = ""
    tags: tuple[str, ...] = ()
    purge: int = 0
    cost: float = 0.0
    known: Known = NOTHING_KNOWN
    form: int = 0

    @property
    def is_marker(self) -> bool:
        """Whether this only names the fields that select the entries."""
        return self.status == 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The fields of the response."""
        return from_lines(self.sent_lines) + from_lines(self.held_lines)


class WriteRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One accepted write, replayable as it came, and what it does to a representation.

    `endpoint` is the request target at the origin (path and query). `url` is the URI whose representation
    `effect` changes: the target, or for the copy that stands with an affected resource that resource's URI.
    `body_stored` says that the body is in a key of its own and `body` is empty. `accepted` is milliseconds of
    the region's clock. `affected` are the digests of the other resources that the write touches. `bulk` is the
    endpoint that takes it together with others. `on_dead` is `block`, `skip` or empty. `chained` says that its
    `If-Match` names a state that was pending when it was accepted. `durability` as in the rule.
    `idempotency` is the hash that the client's key is known by, or empty. What differs from one write of a kind to the
    next comes first: `around` gives the rest.
    """

    version: int = VERSION
    id: str
    idempotency_key: str = ""
    accepted: int = 0
    body_stored: bool = False
    body: bytes = b""
    site: str
    url: str
    endpoint: str
    method: str
    headers: WirePairs = ()
    principal: str
    shared: bool = False
    effect: str = "unknown"
    path: str
    group: str
    affected: tuple[str, ...] = ()
    max_tries: int = 0
    max_age: float = 0.0
    repeatable: bool = True
    bulk: str = ""
    coalesce: bool = False
    on_dead: str = ""
    chained: bool = False
    durability: str = "memory"
    idempotency: str = ""


_BEHIND_BODY: Final = CacheRecord.__struct_fields__[CacheRecord.__struct_fields__.index("body") + 1 :]
_encode = msgspec.msgpack.Encoder().encode
_cache_decoder = msgspec.msgpack.Decoder(CacheRecord)
_write_decoder = msgspec.msgpack.Decoder(WriteRecord)
_any_decoder = msgspec.msgpack.Decoder()

# What msgspec raises for bytes that are no record: no MessagePack, text that is no UTF-8, nesting without end.
_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode(record: CacheRecord | WriteRecord) -> bytes:
    """Write a record as MessagePack."""
    return _encode(record)


def around(record: WriteRecord, varying: Sequence[str]) -> tuple[bytes, bytes]:
    """The octets of a write before and behind the fields `varying`, which follow one another."""
    names = record.__struct_fields__
    first = names.index(varying[0])
    if names[first : first + len(varying)] != tuple(varying):
        raise ValueError(f"{', '.join(varying)} do not follow one another")
    fields = [_encode(getattr(record, name)) for name in names]
    begin = _encode(record)[: -sum(map(len, fields))]  # how many fields follow
    return begin + b"".join(fields[:first]), b"".join(fields[first + len(varying) :])


def encoded(*values: object) -> bytes:
    """Write some values, at most 15, as MessagePack, as they stand in a record."""
    return _encode(values)[1:]  # without how many they are


def before_octets(length: int) -> bytes:
    """What stands in MessagePack before so many octets."""
    if length < 1 << 8:
        return bytes((0xC4, length))
    if length < 1 << 16:
        return b"\xc5" + length.to_bytes(2, "big")
    return b"\xc6" + length.to_bytes(4, "big")


def decode_cache_record(data: bytes) -> CacheRecord | None:
    """Read a stored response; None, a miss, for anything that is none of this version."""
    try:
        record = _cache_decoder.decode(data)
    except _UNDECODABLE:
        return None
    return record if record.version == VERSION else None


def around_body(data: bytes, record: CacheRecord) -> tuple[bytes, bytes] | None:
    """The octets before and behind the body in the `data` of a `record`, of which the length of the body is a part.

    None where they are not as `encode` writes them.
    """
    if data != _encode(record):
        return None
    end = len(data) - sum(len(_encode(getattr(record, name))) for name in _BEHIND_BODY)
    return data[: end - len(record.body)], data[end:]


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
