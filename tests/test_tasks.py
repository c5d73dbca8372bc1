"""Background tasks: known, logged, awaited at the end."""

import asyncio
import logging

import pytest

from aiohttp_regioncache.tasks import Tasks


async def test_what_runs_is_counted_until_it_ends() -> None:
    tasks, go = Tasks(), asyncio.Event()
    task = tasks.spawn(wait_for(go), "wait")
    assert task is not None
    assert task.get_name() == "regioncache: wait"
    assert len(tasks) == 1
    go.set()
    await tasks.drain(10.0)
    assert task.done()
    assert len(tasks) == 0


async def test_what_is_too_many_is_dropped() -> None:
    tasks, go = Tasks(limit=1), asyncio.Event()
    assert tasks.spawn(wait_for(go), "first") is not None
    assert tasks.spawn(wait_for(go), "second") is None
    go.set()
    await tasks.drain(10.0)
    assert tasks.spawn(wait_for(go), "third") is not None
    await tasks.drain(10.0)


async def test_a_failure_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("lost")

    tasks = Tasks()
    with caplog.at_level(logging.ERROR):
        tasks.spawn(fail(), "find")
        await tasks.drain(10.0)
    assert "regioncache: find failed" in caplog.text
    assert "LookupError: lost" in caplog.text


async def test_a_drain_waits_for_what_the_tasks_spawn_meanwhile() -> None:
    tasks, done = Tasks(), []

    async def chain(length: int) -> None:
        await asyncio.sleep(0)
        if length:
            tasks.spawn(chain(length - 1), "next")
        done.append(length)

    tasks.spawn(chain(5), "first")
    await tasks.drain(10.0)
    assert done == [5, 4, 3, 2, 1, 0]
    assert len(tasks) == 0


async def test_what_is_late_is_cancelled() -> None:
    tasks, never, cleaned = Tasks(), asyncio.Event(), []

    async def linger() -> None:
        try:
            await never.wait()
        finally:
            cleaned.append(True)

    task = tasks.spawn(linger(), "linger")
    await asyncio.sleep(0)  # it has begun
    await tasks.drain(0.0)
    assert task is not None
    assert task.cancelled()
    assert cleaned == [True]
    assert len(tasks) == 0


async def test_nothing_to_drain() -> None:
    await Tasks().drain(0.0)


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()
