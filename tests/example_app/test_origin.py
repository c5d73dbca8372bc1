"""The origin alone: a real server over a real SQLite file."""

import asyncio
import contextlib
import io
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from example_app.origin import make_origin
from example_app.serving import PortBusyError, listen, start_server

Client = aiohttp.ClientSession


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Client]:
    server = await start_server(make_origin(tmp_path / "origin.sqlite", seeds=3))
    async with aiohttp.ClientSession(server.url) as client:
        yield client
    await server.close()


async def effects(client: Client) -> list[dict[str, Any]]:
    async with client.get("/effects") as response:
        return list((await response.json())["effects"])


async def test_an_item_has_validators_and_a_lifetime(origin: Client) -> None:
    async with origin.get("/items/1") as response:
        assert response.status == 200
        assert await response.json() == {"name": "item 1", "stock": 101}
        assert response.headers["Cache-Control"] == "max-age=60"
        tag, changed = response.headers["ETag"], response.headers["Last-Modified"]
    for condition in ({"If-None-Match": tag}, {"If-None-Match": "W/" + tag}, {"If-Modified-Since": changed}):
        async with origin.get("/items/1", headers=condition) as response:
            assert response.status == 304, condition
            assert response.headers["ETag"] == tag
    async with origin.get("/items/1", headers={"If-None-Match": '"x"', "If-Modified-Since": changed}) as response:
        assert response.status == 200, "If-None-Match decides when both are there (RFC 9110 section 13.2.2)"


async def test_writes_change_the_item(origin: Client) -> None:
    async with origin.put("/items/9", data=b'{ "name":"tea"}', headers={"Content-Type": "application/json"}) as put:
        assert put.status == 201
    async with origin.patch("/items/9", json={"stock": 1, "name": None}) as patch:
        assert (patch.status, await patch.json()) == (200, {"stock": 1})
        tag = patch.headers["ETag"]
    async with origin.get("/items/9") as got:
        assert (got.headers["ETag"], await got.json()) == (tag, {"stock": 1})
    async with origin.delete("/items/9") as deleted:
        assert deleted.status == 204
    async with origin.get("/items/9") as got:
        assert got.status == 404
    assert [(effect["method"], effect["path"]) for effect in await effects(origin)] == [
        ("PUT", "/items/9"),
        ("PATCH", "/items/9"),
        ("DELETE", "/items/9"),
    ]


async def test_creating_and_listing(origin: Client) -> None:
    async with origin.post("/items", json={"name": "new"}) as created:
        assert created.status == 201
        location = created.headers["Location"]
    async with origin.get(location) as got:
        assert await got.json() == {"name": "new"}
    async with origin.get("/items") as listing:
        items = {entry["id"]: entry["item"] for entry in (await listing.json())["items"]}
    assert items[location.removeprefix("/items/")] == {"name": "new"}
    assert items["1"] == {"name": "item 1", "stock": 101}


async def test_a_key_sent_concurrently_is_applied_once(origin: Client) -> None:
    async def send() -> tuple[int, str | None, str]:
        async with origin.post("/items", json={"n": 1}, headers={"Idempotency-Key": "k"}) as response:
            return response.status, response.headers.get("Idempotency-Replayed"), response.headers["Location"]

    answers = await asyncio.gather(*(send() for _ in range(20)))
    assert sorted(str(replayed) for _, replayed, _ in answers) == ["None"] + ["true"] * 19
    assert {(status, location) for status, _, location in answers} == {(201, answers[0][2])}
    assert [effect["key"] for effect in await effects(origin)] == ["k"]


async def test_a_repeated_delete_gets_the_stored_answer(origin: Client) -> None:
    for replayed in (None, "true"):
        async with origin.delete("/items/1", headers={"Idempotency-Key": "gone"}) as response:
            assert response.status == 204
            assert response.headers.get("Idempotency-Replayed") == replayed
    assert len(await effects(origin)) == 1


async def test_a_key_belongs_to_one_request(origin: Client) -> None:
    async with origin.put("/items/1", json={"n": 1}, headers={"Idempotency-Key": "k"}) as response:
        assert response.status == 200
    for path, body in (("/items/1", {"n": 2}), ("/items/2", {"n": 1})):
        async with origin.put(path, json=body, headers={"Idempotency-Key": "k"}) as response:
            assert response.status == 422
            assert response.content_type == "application/problem+json"
    assert len(await effects(origin)) == 1


async def test_a_refused_write_leaves_its_key_free(origin: Client) -> None:
    async with origin.patch("/items/9", json={"n": 1}, headers={"Idempotency-Key": "k"}) as response:
        assert response.status == 404
    assert await effects(origin) == []
    async with origin.put("/items/9", json={}, headers={"Idempotency-Key": "k"}) as response:
        assert response.status == 201


async def test_keys_and_effects_outlive_a_restart(tmp_path: Path) -> None:
    database = tmp_path / "origin.sqlite"
    for replayed in (None, "true"):
        server = await start_server(make_origin(database))
        async with aiohttp.ClientSession(server.url) as client:
            async with client.put("/items/1", json={"n": 1}, headers={"Idempotency-Key": "k"}) as response:
                assert response.headers.get("Idempotency-Replayed") == replayed
            assert len(await effects(client)) == 1
        await server.close()


async def test_a_failed_commit_leaves_neither_key_nor_effect(tmp_path: Path) -> None:
    database = tmp_path / "origin.sqlite"
    server = await start_server(make_origin(database))
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'no'); END")
        async with aiohttp.ClientSession(server.url) as client:
            async with client.put("/items/1", json={"n": 1}, headers={"Idempotency-Key": "k"}) as response:
                assert response.status == 500
            async with client.get("/items/1") as response:
                assert "name" in await response.json()
            assert await effects(client) == []
            other.execute("DROP TRIGGER no")
            async with client.put("/items/1", json={"n": 1}, headers={"Idempotency-Key": "k"}) as response:
                assert "Idempotency-Replayed" not in response.headers
    await server.close()


async def test_effects_keep_the_order_and_come_in_pages(origin: Client) -> None:
    for n in range(5):
        async with origin.put("/items/1", json={"n": n}) as response:
            assert response.status == 200
    everything = await effects(origin)
    assert [effect["body"] for effect in everything] == [f'{{"n": {n}}}' for n in range(5)]
    async with origin.get("/effects", params={"after": str(everything[2]["seq"])}) as response:
        assert (await response.json())["effects"] == everything[3:]


async def test_stats_count_requests_for_items(origin: Client) -> None:
    async with origin.get("/items/1"), origin.get("/items/none"), origin.put("/items/1", json={}):
        pass
    async with origin.get("/stats") as response:
        assert await response.json() == {"requests": 3, "methods": {"GET": 2, "PUT": 1}, "effects": 1}


JSON_TYPE = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/items/none", {}, b"", 404),
        ("GET", "/items/" + "x" * 65, {}, b"", 404),
        ("GET", "/nowhere", {}, b"", 404),
        ("GET", "/effects?after=-1", {}, b"", 400),
        ("GET", "/effects?after=" + "9" * 30, {}, b"", 400),
        ("PUT", "/items", JSON_TYPE, b"{}", 405),
        ("PUT", "/items/1", JSON_TYPE, b"{", 400),
        ("PUT", "/items/1", JSON_TYPE, b"[1]", 422),
        ("PUT", "/items/1", {"Content-Type": "text/plain"}, b"{}", 415),
        ("PUT", "/items/1", JSON_TYPE, b" " * 2_000_000, 413),
        ("PUT", "/items/1", JSON_TYPE | {"If-Match": '"other"'}, b"{}", 412),
        ("PUT", "/items/1", JSON_TYPE | {"Idempotency-Key": ""}, b"{}", 400),
        ("PUT", "/items/1", JSON_TYPE | {"Idempotency-Key": "k" * 256}, b"{}", 400),
        ("PUT", "/items/1", JSON_TYPE | {"Idempotency-Key": "\xe9"}, b"{}", 400),
        ("PATCH", "/items/none", JSON_TYPE, b"{}", 404),
        ("DELETE", "/items/none", {}, b"", 404),
    ],
)
async def test_bad_requests_are_problems(
    origin: Client, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with origin.request(method, path, headers=headers, data=io.BytesIO(body) if body else None) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        assert (await response.json())["status"] == status
    assert await effects(origin) == []


def test_a_busy_port_is_named() -> None:
    with listen() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusyError, match=str(port)):
            listen(port)


async def spawn(tmp_path: Path, *flags: str) -> tuple[asyncio.subprocess.Process, str]:
    command = [
        sys.executable,
        "-m",
        "example_app.origin",
        "--database",
        str(tmp_path / "db"),
        "--port",
        *flags,
    ]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    return process, line.rsplit(" ", 1)[-1].strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    process, url = await spawn(tmp_path, "0")
    async with aiohttp.ClientSession() as client, client.get(url + "/items/1") as response:
        assert response.status == 200
    process.send_signal(number)
    assert await process.wait() == 0


async def test_the_command_ends_with_its_parent(tmp_path: Path) -> None:
    process, _ = await spawn(tmp_path, "0", "--stop-with-stdin")
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


async def test_the_command_names_a_busy_port(tmp_path: Path) -> None:
    first, url = await spawn(tmp_path, "0")
    port = url.rsplit(":", 1)[-1]
    second, _ = await spawn(tmp_path, port)
    assert second.stderr is not None
    assert f"port {port} is busy" in (await second.stderr.read()).decode()
    assert await second.wait() == 1
    first.terminate()
    assert await first.wait() == 0
