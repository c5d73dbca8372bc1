"""The origins of an edge: a way to each of their addresses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from ..site import normalize_host
from ..upstream import OriginAddress, Upstream
from .balance import Balance
from .sessions import client_session

logger = logging.getLogger(__name__)

MOST_ORIGINS: Final = 10_000
"""Origins whose health is remembered."""
FAILING: Final = frozenset({502, 503, 504})
"""Answers that say that an address cannot serve now."""
_CHECKS_AT_ONCE: Final = 32
_CHECKED_SECONDS: Final = 300.0
"""How long after its last request an origin's health is looked after."""


class Way:
    """A way to one address of an origin: `base` is its URL, `host` what it is asked for, None for its own."""

    def __init__(self, origins: Origins, upstream: Upstream, address: OriginAddress, host: str | None) -> None:
        self.base = address.url.rstrip("/")
        self.host = upstream.host_for(host)
        self._origins = origins
        self._upstream = upstream
        self._address = address

    @property
    def place(self) -> Hashable:
        """What a request needs to be sent on such a way: two are alike when it is the same."""
        return self.base, self.host, self._upstream.is_guarded

    def session(self, *, reuse: bool = True) -> aiohttp.ClientSession:
        """The session for requests on this way; `reuse` connections for more than one."""
        return self._origins.session(is_guarded=self._upstream.is_guarded, reuse=reuse)

    def url(self, endpoint: str) -> URL:
        """The URL of a path with its query, encoded already."""
        return URL(self.base + endpoint, encoded=True)

    @property
    def tls(self) -> dict[str, Any]:
        """The options that make TLS ask for, and check, the host rather than the address."""
        if self.host is None or not self.base.startswith("https:"):
            return {}
        return {"server_hostname": normalize_host(self.host)}

    def note(self, status: int) -> None:
        """Learn from an answer how the address is; 0 stands for none."""
        self._origins.note(self._upstream, self._address, status)

    def note_failure(self, error: Exception) -> None:
        """Learn from what a request ended with before an answer; a host that a certificate lacks is its client's."""
        if not isinstance(error, aiohttp.ClientSSLError):
            self.note(0)


class Origins:
    """Ways to origins, with the connections and the health of their addresses.

    `health_seconds` lie between active checks, which may take `health_timeout` seconds each; `connect_timeout` seconds
    may a connection take, where a request says nothing.
    """

    def __init__(
        self,
        *,
        response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
        health_seconds: float = 10.0,
        health_timeout: float = 5.0,
        connect_timeout: float = 10.0,
    ) -> None:
        self._response_class = response_class
        self._health_seconds = health_seconds
        self._health_timeout = aiohttp.ClientTimeout(total=health_timeout)
        self._connect_timeout = connect_timeout
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}
        self._balances: OrderedDict[Upstream, Balance] = OrderedDict()
        self._used: dict[Upstream, float] = {}
        self._checker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after the health of the origins that have a path for it."""
        self._checker = asyncio.get_running_loop().create_task(self._check_for_ever(), name="regioncache: health")

    async def close(self) -> None:
        """End all of it, and close every connection."""
        if self._checker is not None:
            self._checker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checker
        for session in self._sessions.values():
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def session(self, *, is_guarded: bool = False, reuse: bool = True) -> aiohttp.ClientSession:
        """The session of a kind, made when it is first needed."""
        kind = (is_guarded, reuse)
        if kind not in self._sessions:
            self._sessions[kind] = client_session(
                reuse=reuse,
                is_guarded=is_guarded,
                connect_timeout=self._connect_timeout,
                response_class=self._response_class,
            )
        return self._sessions[kind]

    def ways(self, upstream: Upstream, host: str | None = None) -> Iterator[Way]:
        """The ways to an origin for a request to `host`, in the order in which they may be tried."""
        if len(upstream.addresses) == 1:
            yield Way(self, upstream, upstream.addresses[0], host)
            return
        for address in self._balance(upstream).order():
            yield Way(self, upstream, address, host)

    def note(self, upstream: Upstream, address: OriginAddress, status: int) -> None:
        """Learn from an answer how an address is; 0 stands for none."""
        if len(upstream.addresses) == 1:
            return
        balance = self._balance(upstream)
        if status and status not in FAILING:
            balance.succeeded(address)
            return
        if balance.failed(address):
            logger.warning("%s: left alone for a while: %s", address.url, f"status {status}" if status else "no answer")

    def _balance(self, upstream: Upstream) -> Balance:
        balance = self._balances.get(upstream)
        if balance is None:
            balance = self._balances[upstream] = Balance(upstream.addresses)
            if len(self._balances) > MOST_ORIGINS:
                oldest, _ = self._balances.popitem(last=False)
                self._used.pop(oldest, None)
        else:
            self._balances.move_to_end(upstream)
        self._used[upstream] = time.monotonic()
        return balance

    # --- active checks ---

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._health_seconds)
            recent = time.monotonic() - _CHECKED_SECONDS
            checked = [each for each in self._balances if each.health_path and self._used[each] > recent]
            at_once = asyncio.Semaphore(_CHECKS_AT_ONCE)
            pairs = [(upstream, address) for upstream in checked for address in upstream.addresses]
            await asyncio.gather(*(self._check(*pair, at_once) for pair in pairs))

    async def _check(self, upstream: Upstream, address: OriginAddress, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            status = await self._health_of(upstream, address)
        balance = self._balances.get(upstream)
        if balance is None:
            return
        if balance.checked(address, is_fit=200 <= status < 400):
            logger.warning(
                "%s: left alone until %s answers: %s", address.url, upstream.health_path, status or "no answer"
            )

    async def _health_of(self, upstream: Upstream, address: OriginAddress) -> int:
        way = Way(self, upstream, address, upstream.fallback_host)
        headers = {"Host": way.host} if way.host else {}
        try:
            async with way.session().get(
                way.url(upstream.health_path or "/"),
                headers=headers,
                allow_redirects=False,
                timeout=self._health_timeout,
                **way.tls,
            ) as answer:
                return answer.status
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            logger.debug("%s: no answer to the check of its health: %s", address.url, error)
            return 0
