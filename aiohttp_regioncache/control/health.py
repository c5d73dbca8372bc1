"""Health of an edge for load balancers and supervisors: `/_regioncache/health/live` and `/ready`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web

from ..errors import RegionUnavailableError
from ..problems import problem
from ..regions import TrustedProxies
from ..settings import Settings
from ..store.region import RegionStore

KEPT_SECONDS: Final = 1.0
"""How long what was found about the regions is told again."""
LOOPBACK: Final = ("127.0.0.0/8", "::1", "unix")
"""Peers on this machine."""
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "Via")


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests should come here: `ready`, `starting`, `stopping` or `no-region`.

    `region` is the first one that runs scripts; `unreachable` are those that were asked before it, and why.
    """

    status: str
    region: str = ""
    unreachable: Mapping[str, str] = {}


class Health:
    """Tell whether an edge is alive, and whether it is ready.

    It is ready when it has started, does not stop, and a region's Redis runs a script: the home region's, or the
    first of the others that does. That is found out at most once a second, however many ask.
    Only this machine, the settings' `trusted_proxies` and `serve.health_from` get an answer, and only about
    themselves: what came through a proxy is 404 like any page that is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self._peers = TrustedProxies((*LOOPBACK, *settings.trusted_proxies, *settings.serve.health_from))
        self._stores: Mapping[str, RegionStore] | None = None
        self._is_stopping = False
        self._found = Readiness("starting")
        self._found_at = float("-inf")
        self._finding = asyncio.Lock()

    def started(self, stores: Mapping[str, RegionStore]) -> None:
        """Begin to be ready; `stores` are in the order in which they are asked."""
        self._stores = stores

    def stopping(self) -> None:
        """Be ready no more, for good."""
        self._is_stopping = True

    async def readiness(self) -> Readiness:
        """Say whether requests should come here."""
        if self._is_stopping:
            return Readiness("stopping")
        if self._stores is None:
            return Readiness("starting")
        async with self._finding:
            if time.monotonic() - self._found_at >= KEPT_SECONDS:
                self._found = await _first_that_answers(self._stores)
                self._found_at = time.monotonic()
            return self._found

    async def answer(self, request: web.Request, page: str, peer: str | None) -> web.Response:
        """Answer a request for `live` or `ready`; `peer` is the address that it came from, None for a unix socket."""
        is_direct = not any(name in request.headers for name in _FORWARDED)
        if page not in ("live", "ready") or not (is_direct and self._peers.trusts(peer)):
            return problem(404, "Not Found", "There is no such page.")
        if request.method not in ("GET", "HEAD"):
            return problem(405, "Method Not Allowed", "Health can be read.", headers={"Allow": "GET, HEAD"})
        found = await self.readiness() if page == "ready" else Readiness("live")
        return web.Response(
            status=200 if found.status in ("live", "ready") else 503,
            body=msgspec.json.encode(found),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )


async def _first_that_answers(stores: Mapping[str, RegionStore]) -> Readiness:
    unreachable: dict[str, str] = {}
    for name, store in stores.items():
        try:
            await store.try_script()
        except RegionUnavailableError as error:
            unreachable[name] = str(error)
        else:
            return Readiness("ready", name, unreachable)
    return Readiness("no-region", "", unreachable)
