"""Request bodies that aiohttp's server has decoded reach the origin as what they are."""

import gzip
import json
from pathlib import Path

from tests.support import eventually
from tests.support.world import one_edge

COMPRESSED = gzip.compress(json.dumps({"n": 2}).encode())
FIELDS = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


async def test_a_compressed_write_behind_reaches_the_origin_readable(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        assert (await edge.ask("PUT", "/items/1", data=COMPRESSED, headers=FIELDS)).status == 202
        await eventually(lambda: world.origin.documents.get("/items/1") == {"n": 2})
        assert "Content-Encoding" not in world.origin.requests[-1].headers
        assert json.loads((await edge.get("/items/1")).body) == {"n": 2}


async def test_a_compressed_write_through_reaches_the_origin_readable(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        assert (await edge.ask("PUT", "/pages/1", data=COMPRESSED, headers=FIELDS)).status == 200
        assert world.origin.documents["/pages/1"] == {"n": 2}
        assert "Content-Encoding" not in world.origin.requests[-1].headers


async def test_a_body_that_is_not_what_its_coding_says_is_the_clients_fault(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        for path in ("/items/1", "/pages/1"):
            for body in (b"no gzip at all", COMPRESSED[:12] + b"x" * 20):
                answer = await edge.ask("PUT", path, data=body, headers=FIELDS)
                assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")
        assert not world.origin.effects


async def test_a_write_through_keeps_its_length_and_a_compressed_one_gets_none(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        await edge.put("/pages/1", {"n": 1})
        assert world.origin.requests[-1].headers["Content-Length"] == "8"
        await edge.ask("PUT", "/pages/1", data=COMPRESSED, headers=FIELDS)
        assert world.origin.requests[-1].headers["Transfer-Encoding"] == "chunked"
