"""Hits and misses answered inside the protocol, before aiohttp makes a request of what came: no router, no response.

Everything here that aiohttp does not promise to keep stands in this file. It was written for the sources whose digest
is `FINGERPRINT`; beside others it steps aside. Only what provably gets the same answer is taken: one whole request
without a body on a connection that is idle, whose plan was made by the normal way and is a plain hit or miss now. All
else goes that way, untouched.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from ..bounded import Bounded
from ..origins.letters import Answer
from ..reads.misses import miss_status
from ..reads.plans import Plan, Plans, ReadPlan
from ..reads.ready import Ready
from ..records import WirePairs
from ..sources import digest_of
from .access_log import Access, AccessWriter, cache_facts, trace_id
from .early import Early, KeepsEarly
from .interim import interim_octets
from .passing import Outcome, Passed, Passing

logger = logging.getLogger(__name__)

FINGERPRINT: Final = "b097f2442aead1d0"
"""What `fingerprint` gives for the aiohttp that this was written for."""
MADE_FOR: Final = "3.14.5"
"""The version of aiohttp that this was written for."""
_RELIED_ON: Final = (
    BaseProtocol,
    RequestHandler.__init__,
    RequestHandler.connection_made,
    RequestHandler.connection_lost,
    RequestHandler.data_received,
    RequestHandler.shutdown,
    RequestHandler.close,
    RequestHandler.force_close,
    RequestHandler.start,
    RequestHandler._handle_request,
    RequestHandler._process_keepalive,
    web.Server,
    web.AppRunner._make_server,
    web.Application._make_handler,
)
_MAX_HELD: Final = 64 * 1024
"""Octets of further requests that are taken while one is being answered."""


@functools.cache
def fingerprint() -> str:
    """A digest of the sources of aiohttp that this file relies on; empty when they are not there."""
    if HttpRequestParser.__module__ != "aiohttp._http_parser":
        return ""  # the parser in Python
    return digest_of(_RELIED_ON)


class Ways(NamedTuple):
    """By what requests are answered inside the protocol; as in `Gate`."""

    plans: Plans
    passing: Passing | None


class Gate:
    """What all connections of a server share; while it is not open every request goes the normal way.

    `passing` takes what has to go to the origin, None: that goes the normal way. `access` gets the lines of the access
    log.
    """

    def __init__(self, plans: Plans, passing: Passing | None, access: AccessWriter | None) -> None:
        self.plans = plans
        self.passing = passing
        self.access = access
        self.is_open = True
        self._tables: dict[tuple[str, bool], Bounded[bytes, ReadPlan]] = {}

    def table(self, scheme: str, *, is_trusted: bool) -> Bounded[bytes, ReadPlan]:
        """The plans by the octets of whole requests, for connections that are alike."""
        kind = (scheme, is_trusted)
        if kind not in self._tables:
            self._tables[kind] = self.plans.table()
        return self._tables[kind]


class FastHandler(RequestHandler, KeepsEarly):
    """A connection that answers plain hits and misses at once.

    `_is_clean`: the parser is between two requests, so that the octets alone say what the next one is. `_asks`: a
    region or an origin is being asked for the answer to a request; what comes meanwhile is held. `_began`: when that
    began, for the access log, until the request has been answered.
    """

    __slots__ = (
        "_asks",
        "_began",
        "_gate",
        "_held",
        "_held_octets",
        "_is_clean",
        "_is_trusted",
        "_scheme",
        "_table",
        "early",
        "peer",
    )

    def __init__(self, manager: web.Server, gate: Gate, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gate = gate
        self._is_clean = True
        self._asks = False
        self._held: deque[bytes] = deque()
        self._held_octets = 0
        self._began: float | None = None
        self.peer: str | None = None
        self._scheme = "http"
        self._is_trusted = False
        self._table: Bounded[bytes, ReadPlan] | None = None
        self.early: Early | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out what of a connection counts for an answer."""
        super().connection_made(transport)
        peername = self.peername
        self.peer = str(peername[0]) if isinstance(peername, tuple) and peername else None
        self._scheme = "http" if self.ssl_context is None else "https"
        self._is_trusted = self._gate.plans.trusts(self.peer)
        # A line of the access log wants more of a request than its octets say without a parser.
        if self._gate.access is None:
            self._table = self._gate.table(self._scheme, is_trusted=self._is_trusted)

    def data_received(self, data: bytes) -> None:
        """Answer what can be answered at once; leave the rest to aiohttp."""
        if self._asks:
            self._hold(data)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages or not self._is_idle():
            self._is_clean = False
            super().data_received(data)
            return
        was_clean, table = self._is_clean, self._table
        if was_clean and table is not None and (plan := table.get(data)) is not None:
            if self._gate.plans.is_good(plan):
                self._request_count += 1
                self._answer(plan, data, None)
                return
            table.drop(data)
        self._waiter = None  # so that nobody is woken before it is known who answers
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        self._is_clean = False
        if not self._messages:
            return
        message = self._only_message()
        if message is not None:
            self._is_clean = data.endswith(b"\r\n\r\n")  # nothing of another request can end so
            if (plan := self._plan(message)) is not None:
                if was_clean and self._is_clean and table is not None and self._gate.plans.is_sampled():
                    table.put(data, plan, len(data) + plan.overhead)  # it may be the last to hold the plan
                self._answer(plan, data, message)
                return
        if not waiter.done():
            waiter.set_result(None)

    async def _handle_request(self, request: Any, start_time: float | None, request_handler: Any) -> Any:
        """Handle a request the normal way; for who was asked before it has waited already."""
        if self._began is not None:
            start_time, self._began = self._began, None
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            self._drop_early()  # which it may not have had any use for

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what is held."""
        self._held.clear()
        self._held_octets = 0
        self._drop_early()
        super().connection_lost(exc)

    def _drop_early(self) -> None:
        """Have no early answer to a request that is over."""
        if self.early is not None:
            self.early.drop()
            self.early = None

    def close(self) -> None:
        """Close the connection; a request for which somebody is asked gets its answer before."""
        if self._asks:
            self._close = True
        else:
            super().close()

    def _process_keepalive(self) -> None:
        """Close a connection that nobody uses; one with a request for which somebody is asked begins anew after it."""
        if self._asks:
            self._keepalive_handle = None
        else:
            super()._process_keepalive()

    def _is_idle(self) -> bool:
        """Whether nothing stands between a request and its answer: also not a client that is slow to read the last."""
        is_closing = self._force_close or self._close or self._paused
        return not (is_closing or self._upgraded or self._payload_parser is not None) and self._gate.is_open

    def _only_message(self) -> RawRequestMessage | None:
        """The request that came, if it is one and complete without a body."""
        if len(self._messages) != 1 or self._upgraded:
            return None
        message, payload = self._messages[0]
        return message if payload is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage) else None

    def _plan(self, message: RawRequestMessage) -> ReadPlan | None:
        if message.should_close or message.version != HttpVersion11:
            return None
        host = message.headers.get(hdrs.HOST)
        if host is None:
            return None
        return self._gate.plans.find_by(
            (message.method, message.path, host, self._scheme, self._is_trusted, message.raw_headers)
        )

    # --- answering ---

    def _answer(self, plan: ReadPlan, data: bytes, message: RawRequestMessage | None) -> None:
        """Answer by a plan, from memory or when region or origin have said what they know."""
        if self._gate.access is not None:
            self._began = self._loop.time()
        if isinstance(plan, Plan):
            now = plan.store.now()
            ready = self._gate.plans.kept(plan, now)
            if ready is not None:
                self._send_ready(plan, ready, now, message)
                return
        self._asks = self._request_in_progress = True
        if not self._ask(plan, functools.partial(self._told, plan, data, message)):
            self._told(plan, data, message, None)

    def _ask(self, plan: ReadPlan, told: Callable[[Ready | Outcome], None]) -> bool:
        """Ask for an answer; `told` hears of it. False: nobody was asked."""
        if isinstance(plan, Plan):
            return self._gate.plans.ask(plan, told)
        passing = self._gate.passing
        if passing is None:
            return False
        return passing.ask(plan, self, told)

    def _told(self, plan: ReadPlan, data: bytes, message: RawRequestMessage | None, outcome: Ready | Outcome) -> None:
        self._asks = False
        if self.transport is not None and not isinstance(outcome, (Ready, Passed)):
            self._ask_handler(plan, data, message, outcome)  # which notes the end of the request
        else:
            self._request_in_progress = False
            if isinstance(outcome, Ready):
                self._send_ready(plan, outcome, plan.store.now(), message)
            elif isinstance(outcome, Passed) and self.transport is not None:
                self._send_passed(plan, outcome, message)
            elif outcome is not None:
                self._note_gone(plan, outcome, message)
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)
            if self._close or self._force_close:
                self.force_close()
        self._release()

    def _note_gone(
        self, plan: ReadPlan, outcome: Passed | Answer | Exception, message: RawRequestMessage | None
    ) -> None:
        """Note what a client would have got that has gone."""
        if isinstance(outcome, Exception):
            status = 504 if isinstance(outcome, TimeoutError) else 502
        else:
            status = outcome.status
        if isinstance(outcome, Answer):
            outcome.close()
        self._log(plan, message, status, 0, miss_status(plan.store.name))

    def _ask_handler(
        self,
        plan: ReadPlan,
        data: bytes,
        message: RawRequestMessage | None,
        outcome: Answer | Exception | None,
    ) -> None:
        """Let a request go the normal way after all, with what the origin has said already."""
        if message is None:
            self._request_count -= 1
            closing = self._close, self._force_close
            self._close = self._force_close = False  # it came before the end
            super().data_received(data)
            self._close, self._force_close = closing
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        asked = self._only_message()
        if outcome is not None and asked is not None:
            self.early = Early(asked, plan.inquiry.served, outcome)
        elif isinstance(outcome, Answer):
            outcome.close()

    async def relay(self, status: int, reason: str, fields: WirePairs) -> None:
        """Pass on an interim response."""
        if self.transport is not None:
            self.transport.write(interim_octets(status, reason, fields))

    def _hold(self, data: bytes) -> None:
        """Keep what comes after the request that is being answered, cut as it came."""
        self._held.append(data)
        self._held_octets += len(data)
        if self._held_octets >= _MAX_HELD:
            self._pause_transport_reading()

    def _release(self) -> None:
        """Take what was held, up to the next request for which somebody is asked."""
        was_full = self._held_octets >= _MAX_HELD
        while self._held and not self._asks:
            data = self._held.popleft()
            self._held_octets -= len(data)
            self._take(data)
        if was_full and self._held_octets < _MAX_HELD and not (self._reading_paused or self._buffer_paused):
            self._resume_transport_reading()

    def _send_ready(self, plan: ReadPlan, ready: Ready, now: float, message: RawRequestMessage | None) -> None:
        is_head = plan.inquiry.method == hdrs.METH_HEAD
        self._send(ready.head(now) if is_head else ready.octets(now), message)
        if self._gate.access is not None:
            length = 0 if is_head else len(ready.body)
            self._log(plan, message, ready.record.status, length, ready.status(now))

    def _send_passed(self, plan: ReadPlan, passed: Passed, message: RawRequestMessage | None) -> None:
        # It ends the connection then, and has to say so.
        is_last = self._close or self._force_close or not self._gate.is_open
        head = passed.head[:-2] + b"Connection: close\r\n\r\n" if is_last else passed.head
        self._send(head + passed.body, message)
        self._close = self._close or is_last
        if self._gate.access is not None:
            self._log(plan, message, passed.status, len(passed.body), miss_status(plan.store.name))

    def _send(self, octets: bytes, message: RawRequestMessage | None) -> None:
        """Write an answer, and do what aiohttp does after one."""
        manager, transport = self._manager, self.transport
        if manager is None or transport is None:
            return
        if message is not None:
            self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
        manager.requests_count += 1
        transport.write(octets)
        until = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = until
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(until, self._process_keepalive)

    def _log(
        self, plan: ReadPlan, message: RawRequestMessage | None, status: int, length: int, cache_status: str
    ) -> None:
        """Have a line in the access log, if there is one: then every request has been taken apart."""
        access, began, self._began = self._gate.access, self._began, None
        if access is None or message is None or began is None:
            return
        headers = message.headers
        duration = self._loop.time() - began
        access.put(
            Access(
                time=time.time() - duration,
                peer=self.peer or "",
                method=message.method,
                host=headers.get(hdrs.HOST, ""),
                path=message.url.raw_path,
                target=str(message.url.relative() if message.url.absolute else message.url),
                version="HTTP/1.1",
                status=status,
                bytes=length,
                duration=round(duration, 6),
                region=plan.store.name,
                cache=cache_facts([cache_status])[1],
                user_agent=headers.get(hdrs.USER_AGENT, ""),
                referer=headers.get(hdrs.REFERER, ""),
                trace_id=trace_id(headers.get("traceparent", "")),
            )
        )


class FastServer(web.Server):
    """A server whose connections answer plain hits and misses at once."""

    def __init__(self, server: web.Server, gate: Gate) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=server._loop,
            **server._kwargs,
        )
        self._gate = gate

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return FastHandler(self, self._gate, loop=self._loop, **self._kwargs)


class GatewayRunner(web.AppRunner):
    """Run an application whose hits and misses are answered inside the protocol, where that can be done.

    `ways` are asked for once the application has started. `gate` is None where everything goes the normal way.
    """

    __slots__ = ("_access", "_ways", "gate")

    def __init__(
        self,
        app: web.Application,
        ways: Callable[[], Ways] | None,
        access: AccessWriter | None,
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._ways = ways
        self._access = access
        self.gate: Gate | None = None

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        if self._ways is None:
            return server
        if fingerprint() != FINGERPRINT:
            logger.warning(
                "aiohttp %s is not %s, for which the fast way of hits was made: they go the normal way, and slower",
                aiohttp.__version__,
                MADE_FOR,
            )
            return server
        ways = self._ways()
        self.gate = Gate(ways.plans, ways.passing, self._access)
        return FastServer(server, self.gate)
