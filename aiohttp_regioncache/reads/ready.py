"""Stored responses as the octets that go out: a hit is sent as it lies there."""

from __future__ import annotations

import functools
import math
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict

from ..records import CacheRecord, Form, from_lines
from ..responses import CACHE_STATUS, cache_name
from ..semantics.cache_status import cache_status
from ..semantics.freshness import current_age

MAX_JOINED: Final = 128 * 1024
"""Octets of the longest response that is kept in one piece for the second in which it does not change."""
_PLAIN: Final = int(Form.PLAIN)
_NAMES_SERVER: Final = int(Form.NAMES_SERVER)
_SERVER: Final = f"Server: {SERVER_SOFTWARE}\r\n".encode()
_SLACK: Final = 1e-6
"""Seconds by which what is kept for a second ends early: the next is computed where rounding could matter."""


class Head:
    """The status line and the fields that aiohttp would send over HTTP/1.1 to a connection that stays.

    Only `Age` and the `ttl` of `Cache-Status` change while a response lies there, once a second each; times are seconds
    of the region's clock. `detail` as in `Cache-Status`; `length` octets of the body, which `record` need not have.
    """

    __slots__ = ("_after", "_before", "_between", "_detail", "_from", "_octets", "_region", "_until", "record")

    def __init__(self, record: CacheRecord, region: str, detail: str | None, length: int) -> None:
        self.record = record
        self._region = region
        self._detail = detail
        self._between, said = _status_parts(region, detail)
        server = b"" if record.form & _NAMES_SERVER else _SERVER
        self._before = b"HTTP/1.1 %d %b\r\n%bAge: " % (record.status, record.reason, record.sent_lines)
        self._after = b"%b\r\nContent-Length: %d\r\n%b\r\n" % (said, length, server)
        self._from = math.inf
        self._until = -math.inf
        self._octets = b""

    @property
    def size(self) -> int:
        """The octets that are kept beside the record."""
        return len(self._before)

    def without_body(self, length: int) -> Head:
        """The same, holding no body."""
        return Head(msgspec.structs.replace(self.record, body=b""), self._region, self._detail, length)

    def ttl(self, now: float) -> float:
        """The seconds for which the response stays fresh."""
        record = self.record
        return record.terms.lifetime - current_age(record.initial_age, record.response_time, now)

    def octets(self, now: float) -> bytes:
        """The status line and the fields; kept until a second is over."""
        if not self._from <= now < self._until:
            self._write(now)
        return self._octets

    def status(self, now: float) -> str:
        """The value of `Cache-Status`."""
        return cache_status(cache_name(self._region), hit=True, ttl=self.ttl(now), detail=self._detail)

    def fields(self, now: float) -> CIMultiDict[str]:
        """The fields as a middleware sees them: without those that aiohttp adds when it sends a response."""
        record = self.record
        age = current_age(record.initial_age, record.response_time, now)
        fields = CIMultiDict(from_lines(record.sent_lines))
        fields.add("Age", str(max(0, int(age))))
        fields.add(CACHE_STATUS, self.status(now))
        return fields

    def _write(self, now: float) -> None:
        record = self.record
        age = current_age(record.initial_age, record.response_time, now)
        ttl = record.terms.lifetime - age
        whole_age, whole_ttl = max(0, int(age)), math.floor(ttl)
        self._octets = b"%b%d%b%d%b" % (self._before, whole_age, self._between, whole_ttl, self._after)
        self._from = now
        self._until = now + min(whole_age + 1 - age, ttl - whole_ttl) - _SLACK


class Ready:
    """A stored response with the octets that go out for it: a body, and a `Head` that others may have."""

    __slots__ = ("_begun", "_head", "_joined", "body")

    def __init__(self, head: Head, body: bytes) -> None:
        self._head = head
        self.body = body
        self._begun: bytes | None = None
        self._joined = b""

    @classmethod
    def of(cls, record: CacheRecord, region: str, detail: str | None) -> Ready | None:
        """Make ready what can be sent as it lies there; None for the others, which aiohttp has to look at."""
        if not record.form & _PLAIN or record.terms.no_cache:
            return None
        return cls(Head(record, region, detail, len(record.body)), record.body)

    @property
    def record(self) -> CacheRecord:
        """The stored response, perhaps without its body."""
        return self._head.record

    @property
    def size(self) -> int:
        """The octets that are kept beside the record."""
        size = self._head.size + len(self.body)
        return size if size <= MAX_JOINED else self._head.size

    def ttl(self, now: float) -> float:
        """The seconds for which it stays fresh."""
        return self._head.ttl(now)

    def head(self, now: float) -> bytes:
        """The status line and the fields."""
        return self._head.octets(now)

    def headless(self) -> Head:
        """Its head, holding no body."""
        return self._head.without_body(len(self.body))

    def octets(self, now: float) -> bytes:
        """The whole response; kept until a second is over."""
        head = self._head.octets(now)
        if head is self._begun:
            return self._joined
        joined = head + self.body
        if len(joined) <= MAX_JOINED:
            self._begun, self._joined = head, joined
        return joined

    def ordinary(self, now: float) -> web.Response:
        """The response as a middleware sees it: without the fields that aiohttp adds when it sends it."""
        record = self._head.record
        reason = record.reason.decode("latin-1")
        return web.Response(status=record.status, reason=reason, headers=self._head.fields(now), body=self.body or None)

    def status(self, now: float) -> str:
        """The value of `Cache-Status`."""
        return self._head.status(now)


@functools.lru_cache(maxsize=256)
def _status_parts(region: str, detail: str | None) -> tuple[bytes, bytes]:
    """What stands between the age and the ttl, and behind it."""
    said = cache_status(cache_name(region), hit=True, ttl=0, detail=detail)
    before, _, after = said.rpartition("ttl=0")
    return f"\r\n{CACHE_STATUS}: {before}ttl=".encode(), after.encode()
