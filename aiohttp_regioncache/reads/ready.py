"""Stored responses as the octets that go out: a hit is sent as it lies there."""

from __future__ import annotations

import functools
import math
from typing import Final

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


class Ready:
    """A stored response with the octets that aiohttp would send for it over HTTP/1.1 to a connection that stays.

    Only `Age` and the `ttl` of `Cache-Status` change while it lies there, once a second each; times are seconds of the
    region's clock. `detail` as in `Cache-Status`.
    """

    __slots__ = ("_after", "_before", "_between", "_detail", "_from", "_head", "_joined", "_region", "_until", "record")

    def __init__(self, record: CacheRecord, region: str, detail: str | None) -> None:
        self.record = record
        self._region = region
        self._detail = detail
        self._between, said = _status_parts(region, detail)
        server = b"" if record.form & _NAMES_SERVER else _SERVER
        self._before = b"HTTP/1.1 %d %b\r\n%bAge: " % (record.status, record.reason, record.sent_lines)
        self._after = b"%b\r\nContent-Length: %d\r\n%b\r\n" % (said, len(record.body), server)
        self._from = math.inf
        self._until = -math.inf
        self._head = b""
        self._joined: bytes | None = None

    @classmethod
    def of(cls, record: CacheRecord, region: str, detail: str | None) -> Ready | None:
        """Make ready what can be sent as it lies there; None for the others, which aiohttp has to look at."""
        is_plain = record.form & _PLAIN and not record.terms.no_cache
        return cls(record, region, detail) if is_plain else None

    @property
    def size(self) -> int:
        """The octets that are kept beside the record."""
        size = len(self._before) + len(self.record.body)
        return size if size <= MAX_JOINED else len(self._before)

    def ttl(self, now: float) -> float:
        """The seconds for which it stays fresh."""
        record = self.record
        return record.terms.lifetime - current_age(record.initial_age, record.response_time, now)

    def head(self, now: float) -> bytes:
        """The status line and the fields."""
        if not self._from <= now < self._until:
            self._write_head(now)
        return self._head

    def octets(self, now: float) -> bytes:
        """The whole response; kept until a second is over."""
        if not self._from <= now < self._until:
            self._write_head(now)
        if self._joined is not None:
            return self._joined
        joined = self._head + self.record.body
        if len(joined) <= MAX_JOINED:
            self._joined = joined
        return joined

    def ordinary(self, now: float) -> web.Response:
        """The response as a middleware sees it: without the fields that aiohttp adds when it sends it."""
        record = self.record
        age = current_age(record.initial_age, record.response_time, now)
        fields = CIMultiDict(from_lines(record.sent_lines))
        fields.add("Age", str(max(0, int(age))))
        fields.add(CACHE_STATUS, self.status(now))
        reason = record.reason.decode("latin-1")
        return web.Response(status=record.status, reason=reason, headers=fields, body=record.body or None)

    def status(self, now: float) -> str:
        """The value of `Cache-Status`."""
        return cache_status(cache_name(self._region), hit=True, ttl=self.ttl(now), detail=self._detail)

    def _write_head(self, now: float) -> None:
        record = self.record
        age = current_age(record.initial_age, record.response_time, now)
        ttl = record.terms.lifetime - age
        whole_age, whole_ttl = max(0, int(age)), math.floor(ttl)
        self._head = b"%b%d%b%d%b" % (self._before, whole_age, self._between, whole_ttl, self._after)
        self._joined = None
        self._from = now
        self._until = now + min(whole_age + 1 - age, ttl - whole_ttl) - _SLACK


@functools.lru_cache(maxsize=256)
def _status_parts(region: str, detail: str | None) -> tuple[bytes, bytes]:
    """What stands between the age and the ttl, and behind it."""
    said = cache_status(cache_name(region), hit=True, ttl=0, detail=detail)
    before, _, after = said.rpartition("ttl=0")
    return f"\r\n{CACHE_STATUS}: {before}ttl=".encode(), after.encode()
