"""The real servers and the proxy do what the other tests rely on."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from tests.support import eventually
from tests.support.proxy import TcpProxy
from tests.support.servers import ReplicaPair, ValkeyCluster, ValkeyServer, flush_all, shared_servers

PARENT = """
import asyncio, sys
from pathlib import Path
from tests.support.servers import ValkeyServer

async def main():
    async with ValkeyServer(Path(sys.argv[1])) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_server_keeps_its_data_over_a_crash_on_the_same_port(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path, config={"appendonly": "yes", "appendfsync": "always"}) as server:
        url, pid = server.url, server.pid
        async with server.client() as client:
            await client.set("key", "value")
        await server.kill()
        await server.start()
        async with server.client() as client:
            assert (server.url, await client.get("key")) == (url, b"value")
        assert server.pid != pid
        await server.restart()
        async with server.client() as client:
            assert await client.get("key") == b"value"


async def test_server_on_a_unix_socket_with_a_long_path(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path / ("x" * 100), unix=True) as server, server.client() as client:
        assert await client.ping()


async def test_paused_server_answers_after_resume(server: ValkeyServer) -> None:
    async with server.client() as client:
        await client.ping()
        server.pause()
        pending = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([pending], timeout=0.2)
        assert not done
        server.resume()
        assert await pending


async def test_server_ends_with_a_killed_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    port = int(await parent.stdout.readline())
    assert is_listening(port)
    parent.kill()
    await parent.communicate()
    await eventually(lambda: not is_listening(port))


async def test_cluster_serves_all_slots(tmp_path: Path) -> None:
    async with (
        ValkeyCluster(tmp_path) as cluster,
        RedisCluster.from_url(cluster.url.replace("+cluster", "")) as client,
    ):
        for number in range(50):
            await client.set(f"key:{number}", number)
        async with cluster.servers[0].client() as first:
            assert 0 < await first.dbsize() < 50
        assert len(client.get_primaries()) == 3


async def test_replica_acknowledges_a_write(tmp_path: Path) -> None:
    async with ReplicaPair(tmp_path) as pair:
        async with pair.primary.client() as primary:
            await primary.set("key", "value")
            assert await primary.wait(1, 5000) == 1
        async with pair.replica.client() as replica:
            assert await replica.get("key") == b"value"


async def test_flush_all_empties_every_shared_server(tmp_path: Path) -> None:
    async with shared_servers(tmp_path, 2) as servers:
        for server in servers:
            async with server.client() as client:
                await client.set("key", "value")
        await flush_all(servers)
        for server in servers:
            async with server.client() as client:
                assert await client.dbsize() == 0


async def exchange(proxy: TcpProxy, request: bytes = b"PING\r\n") -> bytes:
    """Send one inline command through the proxy on a connection of its own, and return the first line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(request)
        return await reader.readline()
    finally:
        writer.close()


async def test_proxy_delays_each_direction_without_holding_back_the_next_chunk(server: ValkeyServer) -> None:
    clock = asyncio.get_running_loop().time
    async with TcpProxy("127.0.0.1", server.port, delay=0.2) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        sent = clock()
        async with asyncio.timeout(20 * 0.2):  # what they take one after the other
            for number in range(20):
                writer.write(f"ECHO {number}\r\n".encode())
                await asyncio.sleep(0.01)
            answers = [(await reader.readline(), await reader.readline())[1] for _ in range(20)]
        assert answers == [f"{number}\r\n".encode() for number in range(20)]
        assert clock() - sent >= 2 * 0.2
        writer.close()


async def test_proxy_passes_large_values_whole(server: ValkeyServer) -> None:
    value = os.urandom(3_000_000)
    async with TcpProxy("127.0.0.1", server.port) as proxy, Redis(port=proxy.port) as client:
        await client.set("key", value)
        assert await client.get("key") == value


async def test_proxy_reaches_a_unix_socket(tmp_path: Path) -> None:
    async with (
        ValkeyServer(tmp_path / "s", unix=True) as server,
        TcpProxy(server.url.removeprefix("unix://")) as proxy,
    ):
        assert await exchange(proxy) == b"+PONG\r\n"


async def test_proxy_refuses_and_accepts_on_the_same_port(server: ValkeyServer) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        port = proxy.port
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await exchange(proxy)
        await proxy.accept()
        assert (proxy.port, await exchange(proxy)) == (port, b"+PONG\r\n")


async def test_proxy_resets_connections(server: ValkeyServer) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"PING\r\n")
        await reader.readline()
        await proxy.drop_connections()
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()


@pytest.mark.parametrize("connected", [True, False])
async def test_proxy_holds_everything_in_a_black_hole(server: ValkeyServer, connected: bool) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy, Redis(port=proxy.port) as client:
        if connected:
            await client.ping()
        proxy.blackhole()
        pending = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([pending], timeout=0.2)
        assert not done
        await proxy.accept()
        assert await pending


async def test_proxy_loses_a_reply_but_not_the_request(server: ValkeyServer) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        proxy.lose_replies(1)
        with pytest.raises(ConnectionResetError):
            await exchange(proxy, b"INCR counter\r\n")
        assert await exchange(proxy, b"INCR counter\r\n") == b":2\r\n"


async def test_proxy_shows_a_target_that_is_down(server: ValkeyServer) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        await server.kill()
        with pytest.raises(ConnectionError):
            await exchange(proxy)


async def test_proxy_leads_new_connections_to_another_server(server: ValkeyServer, tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path / "other") as other, TcpProxy("127.0.0.1", server.port) as proxy:
        await server.kill()
        proxy.lead_to("127.0.0.1", other.port)
        assert await exchange(proxy) == b"+PONG\r\n"


async def test_proxy_silences_and_breaks_only_subscriptions(server: ValkeyServer) -> None:
    async with TcpProxy("127.0.0.1", server.port) as proxy:
        subscriber, subscribing = await asyncio.open_connection("127.0.0.1", proxy.port)
        other, asking = await asyncio.open_connection("127.0.0.1", proxy.port)
        subscribing.write(b"SUBSCRIBE news\r\n")
        confirmation = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
        assert await subscriber.readexactly(len(confirmation)) == confirmation
        proxy.deafen_subscribers()
        asking.write(b"PUBLISH news 1\r\nPING\r\n")
        assert [await other.readline(), await other.readline()] == [b":1\r\n", b"+PONG\r\n"]
        await proxy.drop_subscribers()
        with pytest.raises(ConnectionResetError):
            await subscriber.readline()
        asking.write(b"PING\r\n")
        assert await other.readline() == b"+PONG\r\n"
        subscribing.close()
        asking.close()
