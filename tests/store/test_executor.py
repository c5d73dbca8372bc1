"""Commands on a region: one pipeline per tick, scripts that were forgotten, and servers that fail in every way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aiohttp_regioncache.errors import RegionUnavailableError
from aiohttp_regioncache.store import entries, queue
from aiohttp_regioncache.store.breaker import Breaker
from aiohttp_regioncache.store.executor import MAX_BATCH, PIPELINES, Executor
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.store.scripts import Script
from tests.store.tools import accept, acceptance, look, opened, raw, resource
from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.servers import ValkeyServer

ITEM = resource("/items/1")
GET = "return redis.call('GET', KEYS[1])"


async def _calls(client: Redis, command: str) -> int:
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def _packets(client: Redis) -> int:
    return int((await client.info("stats"))["total_reads_processed"])


async def test_what_is_asked_in_one_tick_leaves_as_one_pipeline(store: RegionStore, client: Redis) -> None:
    await store.reads.command("ECHO", "connected")
    before = await _packets(client)
    echoes = await asyncio.gather(*(store.reads.command("ECHO", str(n)) for n in range(MAX_BATCH)))
    assert echoes == [str(n).encode() for n in range(MAX_BATCH)]
    assert await _packets(client) - before <= 6  # one command after another would be 256


async def test_a_call_is_sent_at_once_behind_what_was_asked_before(store: RegionStore) -> None:
    await store.queue.command("ECHO", "connected")
    told: list[object] = []
    first = store.queue.submit("SET", "text", "x")
    store.queue.call(
        Script("get", GET, hashlib.sha1(GET.encode(), usedforsecurity=False).hexdigest()), ("text",), (), told.append
    )
    assert (store.queue._waiting, store.queue._pipes) == ([], [])  # no turn of the loop later
    await eventually(lambda: told == [b"x"])
    await first


async def test_what_is_sent_at_once_takes_no_more_pipelines_than_there_are(store: RegionStore) -> None:
    asked = []
    for number in range(PIPELINES - 1):
        asked.append(store.queue.submit("BLPOP", f"nothing {number}", 0.3))
        await asyncio.sleep(0)
    told: list[object] = []
    get = Script("get", GET, hashlib.sha1(GET.encode(), usedforsecurity=False).hexdigest())
    for _ in range(3):  # the last one, and what comes behind it in the same tick
        store.queue.call(get, ("text",), (), told.append)
        asked.append(store.queue.submit("GET", "text"))
        await asyncio.sleep(0)
        assert store.queue._idle == 0
        assert len(store.queue._tasks | store.queue._sent) == PIPELINES
    assert await asyncio.gather(*asked) == [None] * len(asked)
    await eventually(lambda: told == [None] * 3 and store.queue._idle == PIPELINES)


async def test_five_hundred_at_once_find_a_connection(store: RegionStore, client: Redis) -> None:
    async def ask(n: int) -> bytes:
        await asyncio.sleep(n % 7 / 1000)  # over several ticks
        answer: bytes = await store.reads.command("ECHO", str(n))
        return answer

    assert await asyncio.gather(*map(ask, range(500))) == [str(n).encode() for n in range(500)]
    kinds = 5  # reads, fills, queue, the durable writes and the subscription
    assert len(await client.client_list()) <= kinds * PIPELINES + 1


async def test_an_error_answer_goes_to_its_own_command_alone(store: RegionStore) -> None:
    await store.queue.command("SET", "text", "x")
    results: list[object] = await asyncio.gather(
        store.queue.command("GET", "text"),
        store.queue.command("ZCARD", "text"),
        store.queue.command("GET", "text"),
        return_exceptions=True,
    )
    assert results[::2] == [b"x", b"x"]
    assert isinstance(results[1], ResponseError)


async def test_an_argument_that_cannot_be_sent_holds_up_nobody_for_long(store: RegionStore) -> None:
    await store.queue.command("ECHO", "connected")
    for _ in range(2 * PIPELINES):
        with pytest.raises(RegionUnavailableError):
            await asyncio.wait_for(store.queue.command("SET", "\udcff", "no text"), 5)
    assert await asyncio.wait_for(store.queue.command("ECHO", "still"), 5) == b"still"


async def test_a_forgotten_script_is_loaded_again(store: RegionStore, client: Redis) -> None:
    for _ in range(2):
        await raw(client, "SCRIPT", "FLUSH", "SYNC")
        looks = (look(store, ITEM, key=str(n)) for n in range(5))
        begun, looked = await asyncio.gather(entries.begin(store, store.partitions[0], ITEM), asyncio.gather(*looks))
        assert begun.asof == 0
        assert len(looked) == 5
    assert await _calls(client, "evalsha") > 0


async def test_a_restarted_server_learns_the_scripts_again(server: ValkeyServer, store: RegionStore) -> None:
    await accept(store, acceptance())
    await server.restart()

    async def is_back() -> bool:
        try:
            return (await accept(store, acceptance())).seq == 1
        except RegionUnavailableError:
            return False

    await eventually(is_back)


async def test_a_killed_server_is_unavailable_at_once_and_available_again(server: ValkeyServer) -> None:
    async with opened(server.url, breaker_seconds=0.3) as store:
        await server.kill()
        for _ in range(3):
            with pytest.raises(RegionUnavailableError):
                await entries.glance(store, store.partitions[0], "key", ITEM)
        assert store.reads_breaker.is_open
        with pytest.raises(RegionUnavailableError, match="skipped"):
            await store.reads.command("ECHO", "nobody")
        with pytest.raises(RegionUnavailableError, match="skipped"):
            await store.fills.command("ECHO", "nobody")
        await server.start()
        await eventually(lambda: not store.reads_breaker.is_open)
        await entries.glance(store, store.partitions[0], "key", ITEM)
        assert not store.reads_breaker.is_half_open


async def test_a_black_hole_costs_one_timeout_and_then_nothing(server: ValkeyServer) -> None:
    """Whoever asks while the first waits is refused with it, and nobody after it is sent at all."""
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", timeout=1.0, breaker_seconds=60, breaker_failures=1) as store,
    ):  # a long timeout, beside which a busy machine counts for little
        proxy.blackhole()
        clock = asyncio.get_running_loop().time
        begun = clock()
        asked = [asyncio.ensure_future(store.reads.command("ECHO", str(n))) for n in range(20 * MAX_BATCH)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(result, RegionUnavailableError) for result in results)
        timeouts = (clock() - begun) / 1.0
        with pytest.raises(RegionUnavailableError, match="skipped"):
            await store.reads.command("ECHO", "late")
        assert timeouts < 5  # twenty pipelines one after another on four connections would be five timeouts


async def test_after_a_failure_one_pipeline_finds_out_whether_redis_is_back(server: ValkeyServer) -> None:
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}", timeout=0.3, breaker_seconds=0.1, breaker_failures=1) as store,
    ):
        proxy.blackhole()
        with pytest.raises(RegionUnavailableError):
            await store.reads.command("ECHO", "lost")
        await eventually(lambda: store.reads_breaker.is_half_open)
        probe = asyncio.ensure_future(store.reads.command("ECHO", "probe"))
        for _ in range(3):  # submitted, launched, under way
            await asyncio.sleep(0)
        with pytest.raises(RegionUnavailableError, match="skipped"):
            await store.reads.command("ECHO", "other")
        with pytest.raises(RegionUnavailableError, match="cannot be reached"):
            await probe
        await proxy.accept()

        async def is_back() -> bool:
            with contextlib.suppress(RegionUnavailableError):
                return bool(await store.reads.command("ECHO", "back"))
            return False

        await eventually(is_back)


async def test_who_stops_waiting_disturbs_nobody(store: RegionStore) -> None:
    waiting = [asyncio.ensure_future(store.reads.command("ECHO", str(n))) for n in range(50)]
    await asyncio.sleep(0)
    for answer in waiting[::2]:
        answer.cancel()
    assert await asyncio.gather(*waiting[1::2]) == [str(n).encode() for n in range(1, 50, 2)]
    assert await store.reads.command("ECHO", "next") == b"next"


async def test_a_cancelled_accept_is_not_cut_in_half(store: RegionStore) -> None:
    accepting = asyncio.ensure_future(accept(store, acceptance(body=b"x" * 50_000, stored=True)))
    await asyncio.sleep(0)
    accepting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await accepting

    async def is_whole() -> bool:
        depth = await queue.depth(store, store.partitions[0])
        return (depth.writes, depth.due, depth.newest) == (1, 1, 1)

    await eventually(is_whole)


async def test_a_patient_command_is_repeated_after_a_lost_reply_and_an_impatient_one_is_not(
    server: ValkeyServer, client: Redis
) -> None:
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}") as store,
    ):
        write = acceptance()
        await store.queue.command("ECHO", "connected")
        await store.reads.command("ECHO", "connected")
        proxy.lose_replies(1)
        accepted = await accept(store, write)
        assert accepted.detail == write.record.id
        assert (await queue.depth(store, store.partitions[0])).writes == 1
        proxy.lose_replies(1)
        with pytest.raises(RegionUnavailableError):
            await store.reads.command("ECHO", "lost")


async def test_a_patient_command_survives_a_restart_that_is_quick(server: ValkeyServer) -> None:
    async with (
        TcpProxy("127.0.0.1", server.port) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}") as store,
    ):
        await store.queue.command("ECHO", "connected")
        await proxy.drop_connections()
        assert await store.queue.command("ECHO", "again") == b"again"


async def test_too_many_waiting_commands_are_refused(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp_regioncache.store.executor.MAX_WAITING", 10)
    async with opened(server.url) as store:
        asked = [asyncio.ensure_future(store.reads.command("ECHO", str(n))) for n in range(12)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused = [result for result in results if isinstance(result, RegionUnavailableError)]
        assert len(refused) == 2
        assert "waiting" in str(refused[0])


async def test_closing_finishes_what_is_under_way(server: ValkeyServer, client: Redis) -> None:
    async with Redis.from_url(server.url) as own:
        executor = Executor("region", own, Breaker(1, 1.0))
        answers = [executor.submit("INCR", "counter") for _ in range(MAX_BATCH + 10)]
        await asyncio.sleep(0)
        await executor.close()
        assert sorted([await answer for answer in answers]) == list(range(1, MAX_BATCH + 11))


async def test_a_paused_server_does_not_hold_up_whoever_asks_for_what_is_refused(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path) as server, opened(server.url, timeout=0.1, queue_timeout=0.3) as store:
        server.pause()
        try:
            for executor in (store.reads, store.queue):
                with pytest.raises(RegionUnavailableError):
                    await executor.command("ECHO", "nobody")
        finally:
            server.resume()


async def test_an_address_that_is_no_redis_is_a_region_that_cannot_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    async def speak_http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(f"redis://127.0.0.1:{port}", breaker_seconds=0.0) as store:
        with pytest.raises(RegionUnavailableError):
            await store.reads.command("PING")
    assert not [record for record in caplog.records if record.exc_info]
