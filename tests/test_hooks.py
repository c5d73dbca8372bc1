"""Callbacks about writes: which are called, what they are told, and that nothing waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import Rule, WriteEvent
from aiohttp_regioncache.hooks import Hooks
from aiohttp_regioncache.settings import Sync
from tests.support import eventually
from tests.support.world import REGIONS, Edge, World, forwarding_app

QUICK = Sync(lease=5.0, timeout=2.0, poll=0.05, retry_base=0.01, retry_cap=0.05)


async def edge_with(world: World, callbacks: dict[str, list[Any]], **changes: Any) -> Edge:
    """An edge whose plug-in has callbacks, by the names of the signals."""
    app = forwarding_app()

    async def add_callbacks(app: web.Application) -> AsyncIterator[None]:
        for name, some in callbacks.items():
            getattr(app[regioncache.REGION_CACHE], name).extend(some)
        yield

    app.cleanup_ctx.append(add_callbacks)  # before the plug-in's own
    return await world.edge(app, sync=QUICK, **changes)


class Heard:
    """A callback that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[WriteEvent] = []

    async def __call__(self, event: WriteEvent) -> None:
        self.events.append(event)

    @property
    def states(self) -> list[tuple[str, str]]:
        """What was heard: id and state."""
        return [(event.id, event.state) for event in self.events]


def _everywhere(*callbacks: Any) -> dict[str, list[Any]]:
    names = ("on_accepted", "on_synced", "on_rejected", "on_dead", "on_superseded")
    return {name: list(callbacks) for name in names}


async def test_each_write_is_heard_of_when_it_is_queued_and_when_it_ends(tmp_path: Path) -> None:
    heard = Heard()
    async with World(tmp_path) as world:
        world.origin.refuse |= {"/items/2": 400, "/items/3": 302}
        edge = await edge_with(world, _everywhere(heard))
        ids = [json.loads((await edge.put(f"/items/{n}", {})).body)["id"] for n in (1, 2, 3)]
        await eventually(lambda: len(heard.events) == 6)
        assert sorted(heard.states) == sorted(
            [(name, "pending") for name in ids] + list(zip(ids, ("synced", "rejected", "dead"), strict=True))
        )
        (rejected,) = (event for event in heard.events if event.state == "rejected")
        assert (rejected.method, rejected.region, rejected.reason) == ("PUT", REGIONS[0], "status 400")
        assert rejected.answer == 400
        assert rejected.url.endswith("/items/2")
        assert rejected.settled is not None
        assert 0 < rejected.accepted <= rejected.settled


async def test_a_repeated_write_is_heard_of_once(tmp_path: Path) -> None:
    heard = Heard()
    async with World(tmp_path) as world:
        edge = await edge_with(world, _everywhere(heard))
        for _ in range(3):
            assert (await edge.put("/items/1", {}, headers={"Idempotency-Key": "k"})).status == 202
        await eventually(lambda: [state for _, state in heard.states].count("synced") == 1)
        assert [state for _, state in heard.states] == ["pending", "synced"]


async def test_callbacks_that_fail_or_hang_hold_up_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard, hangs, released = Heard(), asyncio.Event(), asyncio.Event()

    async def fails(_event: WriteEvent) -> None:
        raise ValueError("a mistake in a callback")

    def is_not_async(_event: WriteEvent) -> None:
        return None

    async def takes_long(_event: WriteEvent) -> None:
        hangs.set()
        await released.wait()

    caplog.set_level(logging.ERROR)
    async with World(tmp_path) as world:
        edge = await edge_with(world, _everywhere(fails, is_not_async, takes_long, heard))
        assert (await edge.put("/items/1", {"n": 1}, headers={"Prefer": "wait=10"})).status == 200
        await eventually(lambda: [state for _, state in heard.states] == ["pending", "synced"])
        assert hangs.is_set()
        assert "a mistake in a callback" in caplog.text
        released.set()


async def test_a_write_that_an_operator_drops_is_heard_of(tmp_path: Path) -> None:
    heard = Heard()
    async with World(tmp_path) as world:
        await world.origin.stop()
        edge = await edge_with(world, {"on_dead": [heard]}, rules=[Rule("/items/{id}", write="behind")])
        write_id = json.loads((await edge.put("/items/1", {})).body)["id"]
        await edge.cache.writes.drop(write_id)
        await eventually(lambda: [(event.id, event.reason) for event in heard.events] == [(write_id, "dropped")])


async def test_callbacks_are_added_before_the_start(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        edge = await edge_with(world, {})
        with pytest.raises(RuntimeError):
            edge.cache.on_synced.append(Heard())


async def test_no_more_callbacks_run_than_the_limit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_regioncache.hooks.MAX_RUNNING", 2)
    hooks, held, started = Hooks(), asyncio.Event(), []

    async def hold(event: WriteEvent) -> None:
        started.append(event.id)
        await held.wait()

    hooks.on_synced.append(hold)
    hooks.freeze()
    for n in range(4):
        hooks.announce(
            WriteEvent(id=str(n), region="r", state="synced", method="PUT", url="", principal="", accepted=0.0)
        )
    await eventually(lambda: started == ["0", "1"])
    assert caplog.text.count("too many callbacks") == 2
    held.set()
    await hooks.drain(5.0)
