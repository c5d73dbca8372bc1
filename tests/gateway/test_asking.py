"""What happens to a connection while a region is asked for its answer: nothing that would not without."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aiohttp_regioncache.gateway.protocol import FastHandler
from tests.gateway.differential import Pair
from tests.support import eventually

ONE = b"GET /plain/1 HTTP/1.1\r\nHost: a.example\r\n\r\n"
WAYS = pytest.mark.parametrize("is_told", [True, False])
"""Whether the region's answer is plain: else the request goes the normal way after all."""


class Asked:
    """A connection whose request waits for what a region says until `tell` is called."""

    def __init__(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        server: Any = pair.runner.server
        self.server = server
        self.handler: FastHandler = server.connections[0]
        self.tell: Callable[[bool], Any]

    async def answer(self) -> bytes:
        """Read one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(length)


@contextlib.asynccontextmanager
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    async with Pair(tmp_path, "gateway", memory_seconds=0.0) as pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", pair.runner.addresses[0][1])
        await eventually(lambda: len(pair.runner.server.connections) == 1)  # type: ignore[union-attr]
        each = Asked(pair, reader, writer)
        assert isinstance(each.handler, FastHandler)
        assert pair.runner.gate is not None
        table = pair.runner.gate.table("http", is_trusted=False)
        while table.get(ONE) is None:  # until the octets alone lead to its plan
            writer.write(ONE)
            await each.answer()
        plans = pair.cache.edge.plans
        ask = plans.ask
        waiting: list[tuple[Any, Any]] = []

        def hold(plan: Any, told: Any) -> bool:
            waiting.append((plan, told))
            return True

        vars(plans)["ask"] = hold
        writer.write(ONE)
        await eventually(lambda: bool(waiting))
        vars(plans).pop("ask")
        ((plan, told),) = waiting
        each.tell = lambda is_told: ask(plan, told) if is_told else told(None)
        try:
            yield each
        finally:
            writer.close()


@WAYS
async def test_a_connection_does_not_get_too_old(tmp_path: Path, is_told: bool) -> None:
    async with asked(tmp_path) as each:
        each.handler._next_keepalive_close_time = 0.0
        each.handler._process_keepalive()
        each.tell(is_told)
        assert b"GET /plain/1 []" in await each.answer()
        assert each.handler._keepalive_handle is not None


@WAYS
async def test_a_server_that_stops_answers_before_it_goes(tmp_path: Path, is_told: bool) -> None:
    async with asked(tmp_path) as each:
        each.server.pre_shutdown()
        stopping = asyncio.ensure_future(each.server.shutdown(5.0))
        await asyncio.sleep(0)
        each.tell(is_told)
        assert b"GET /plain/1 []" in await each.answer()
        assert await each.reader.read() == b""
        await asyncio.wait_for(stopping, 2)


@WAYS
async def test_a_connection_that_closes_does_so_after_its_answer(tmp_path: Path, is_told: bool) -> None:
    async with asked(tmp_path) as each:
        each.server.pre_shutdown()
        each.tell(is_told)
        assert b"GET /plain/1 []" in await each.answer()
        assert await asyncio.wait_for(each.reader.read(), 2) == b""


@WAYS
async def test_a_server_that_stops_does_not_wait_for_a_client_that_has_gone(tmp_path: Path, is_told: bool) -> None:
    async with asked(tmp_path) as each:
        stopping = asyncio.ensure_future(each.server.shutdown(5.0))
        await asyncio.sleep(0)
        each.writer.transport.abort()
        await eventually(lambda: each.handler.transport is None)
        each.tell(is_told)
        await asyncio.wait_for(stopping, 2)
