"""Writes like one that was accepted before: queued as that was, and never for somebody else."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from aiohttp_regioncache import Affect, Rule
from aiohttp_regioncache.pin import PIN_HEADER
from aiohttp_regioncache.records import WriteRecord, decode_write_record, encode
from aiohttp_regioncache.settings import Queue, Sync
from aiohttp_regioncache.store.accepting import Batch, Blank, Joins, Kind, Packed
from aiohttp_regioncache.store.pipe import Chunk
from aiohttp_regioncache.writes.plans import WritePlans
from tests.store.tools import acceptance, opened
from tests.support import eventually
from tests.support.servers import ValkeyServer
from tests.support.world import REGIONS, Reply, World

ANN, BOB = {"Authorization": "Bearer ann"}, {"Authorization": "Bearer bob"}
ITEM = Rule("/items/{id}", write="behind", affects=("/items", Affect("/items/{id}/copy", "auto")))
_DATED = ("Date", "Set-Cookie", PIN_HEADER)
_FIXED = 6
"""Arguments of the script for each write, before its elements."""
_OWN = ("id", "body", "idempotency_key", "accepted")


class Accepted:
    """What is accepted, and how many of these writes were found a plan for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[Packed] = []
        self.planned = 0
        append, find = Batch.append, WritePlans.find

        def appending(batch: Batch, joins: Joins) -> None:
            keys, arguments, bodies = len(batch.keys), len(batch.arguments), len(batch.bodies)
            key_count, argument_count = batch.key_count, batch.argument_count
            append(batch, joins)
            added = Packed(
                batch.ids[-1],
                Chunk(batch.keys[keys:], batch.key_count - key_count),
                Chunk(batch.arguments[arguments:], batch.argument_count - argument_count),
                batch.bodies[-1] if len(batch.bodies) > bodies else None,
            )
            self.all.append(added)

        def finding(plans: WritePlans, request: web.Request) -> Any:
            plan = find(plans, request)
            self.planned += plan is not None
            return plan

        monkeypatch.setattr(Batch, "append", appending)
        monkeypatch.setattr(WritePlans, "find", finding)

    @property
    def records(self) -> list[WriteRecord]:
        return [_listed(packed)[0][1] for packed in self.all]


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> Accepted:
    return Accepted(monkeypatch)


def _listed(packed: Packed) -> list[tuple[bytes, WriteRecord]]:
    """The line and the record of a write and of each copy of it."""
    parts = (element.partition(b"\n") for element in packed.arguments.arguments()[_FIXED:])
    return [(line, decode_write_record(octets)) for line, _, octets in parts]


def _alike(packed: Packed) -> Any:
    """What is queued of a write without what each has of its own."""
    kept = [
        (line, {name: value for name, value in msgspec.structs.asdict(record).items() if name not in _OWN})
        for line, record in _listed(packed)
    ]
    fixed = packed.arguments.arguments()[:_FIXED]
    assert fixed[0].decode() == packed.write_id
    size = int(fixed[4]) - len(_listed(packed)[0][1].body)
    return kept, packed.keys.arguments()[1:], [*fixed[1:4], size, *fixed[5:]]


def _shape(reply: Reply) -> str:
    """An answer without what each has of its own: its id, its date, and until when its pin holds."""
    headers = [(name, "" if name in _DATED else value) for name, value in reply.headers.items()]
    return re.sub(r"[0-9a-f]{32}", "*", f"{sorted(headers)} {reply.body!r}")


@pytest.mark.parametrize("effect", ["replace", "merge-patch", "unknown", "delete"])
@pytest.mark.parametrize("regions", [REGIONS, REGIONS[:1]])
async def test_the_next_one_is_queued_and_answered_as_the_first(
    tmp_path: Path, accepted: Accepted, effect: str, regions: Sequence[str]
) -> None:
    rule = msgspec.structs.replace(ITEM, effect=effect)
    async with World(tmp_path, regions=regions) as world:
        edge = await world.edge(rules=[rule])
        replies = [await edge.put("/items/1", {"n": number}, headers=ANN) for number in range(3)]
        assert accepted.planned == 2
        first, *others = accepted.all
        assert [_alike(each) for each in others] == [_alike(first)] * 2
        assert len({each.id for each in accepted.records} | {each.idempotency_key for each in accepted.records}) == 6
        assert [copy.id for _, copy in _listed(others[0])] == [others[0].write_id] * 3
        assert [reply.status for reply in replies] == [202] * 3
        assert len(set(map(_shape, replies))) == 1, "\n".join(map(_shape, replies))
        await eventually(lambda: len(world.origin.effects) == 3)
        assert [effect.body for effect in world.origin.effects] == [b'{"n": %d}' % number for number in range(3)]


async def test_a_large_body_is_stored_beside_as_that_of_the_first(tmp_path: Path, accepted: Accepted) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[ITEM], queue=Queue(inline_body=100))
        for text in ("short", "x" * 200, "short", "y" * 300):
            assert (await edge.put("/items/1", {"text": text})).status == 202
        assert accepted.planned == 3
        assert [record.body_stored for record in accepted.records] == [False, True, False, True]
        await eventually(lambda: len(world.origin.effects) == 4)
        assert world.origin.effects[-1].body == b'{"text": "%b"}' % (b"y" * 300)


async def test_what_is_queued_by_a_plan_is_encrypted_as_well(tmp_path: Path, accepted: Accepted) -> None:
    keys = Queue(encryption_keys=(base64.b64encode(bytes(32)).decode(),), inline_body=100)
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[ITEM], queue=keys)
        for text in ("secret", "secret 2", "secret" * 50):
            assert (await edge.put("/items/1", {"text": text})).status == 202
        assert accepted.planned == 2
        for packed in accepted.all:
            assert b"secret" not in packed.arguments.wire + (packed.body[1] if packed.body else b"")
        await eventually(lambda: len(world.origin.effects) == 3)
        assert [effect.body[10:16] for effect in world.origin.effects] == [b"secret"] * 3


async def test_what_is_filled_in_is_what_is_packed_without_blanks(tmp_path: Path) -> None:
    """As it is where records are encrypted; and no kind keeps anything of the body that it was found in."""
    write = acceptance("/items/1", affects=("/items", "/others"), body=b"nobody else's")
    async with ValkeyServer(tmp_path) as server, opened(server.url) as store:
        partition = store.partitions[0]
        kind = Kind.of(partition, write, 100)
        assert b"nobody" not in b"".join(map(encode, kind.records))
        for body in (b"", b"short", b"x" * 100, b"x" * 101):
            filled, packed = Batch(Chunk((), 0)), Batch(Chunk((), 0))
            filled.append(partial(Blank(store, partition, kind).fill, body))
            packed.append(kind.pack(store, partition, body).join)
            one, other = (
                Packed(
                    batch.ids[0],
                    Chunk(batch.keys, batch.key_count),
                    Chunk(batch.arguments, batch.argument_count),
                    batch.bodies[0] if batch.bodies else None,
                )
                for batch in (filled, packed)
            )
            kept, keys, rest = _alike(one)
            assert (kept, rest) == (_alike(other)[0], _alike(other)[2])
            assert len(keys) == len(_alike(other)[1])
            assert [_listed(each)[0][1].body for each in (one, other)] == [body if len(body) <= 100 else b""] * 2
            assert [each.body and each.body[1] for each in (one, other)] == [None if len(body) <= 100 else body] * 2


async def test_everybody_has_writes_of_their_own(tmp_path: Path, accepted: Accepted) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[ITEM])
        for who in (ANN, BOB, ANN, BOB, {}):
            await edge.put("/items/1", {}, headers=who)
        assert accepted.planned == 2
        principals = [record.principal for record in accepted.records]
        assert principals[:2] == principals[2:4]
        assert len(set(principals)) == 3
        is_anns = ["Bearer ann" in str(record.headers) for record in accepted.records]
        assert is_anns == [True, False, True, False, False]


@pytest.mark.parametrize(
    "fields",
    [
        {"Idempotency-Key": '"k"'},
        {"If-Match": '"x"'},
        {"If-None-Match": "*"},
        {"Prefer": "respond-async"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_what_more_has_to_be_looked_at_goes_the_whole_way(
    tmp_path: Path, accepted: Accepted, fields: dict[str, str]
) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[ITEM])
        for _ in range(3):
            await edge.put("/items/1", {}, headers=fields)
        assert accepted.planned == 0


async def _yes(_request: web.Request) -> bool:
    return True


def _somebody(_request: web.Request) -> str:
    return "somebody"


@pytest.mark.parametrize(
    "changes",
    [
        {"authorize": _yes},
        {"principal": _somebody},
        {"when_region_down": "through"},
        {"answer": "optimistic", "effect": "replace"},
    ],
)
async def test_rules_that_have_a_word_to_say_hear_of_each_write(
    tmp_path: Path, accepted: Accepted, changes: dict[str, Any]
) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[msgspec.structs.replace(ITEM, **changes)])
        for _ in range(3):
            await edge.put("/items/1", {})
        assert accepted.planned == 0


async def test_a_full_queue_and_a_large_body_are_refused_as_ever(tmp_path: Path, accepted: Accepted) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(
            rules=[ITEM], sync=Sync(enabled=False), queue=Queue(max_writes_per_resource=2, max_body=1000)
        )
        statuses = [(await edge.put("/items/1", {"n": number})).status for number in range(3)]
        assert statuses == [202, 202, 503]
        assert (await edge.put("/items/1", {"text": "x" * 2000})).status == 413
        assert accepted.planned >= 2


async def test_a_region_that_is_down_refuses_and_doubles_nothing(tmp_path: Path, accepted: Accepted) -> None:
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[ITEM])
        await edge.put("/items/1", {"n": 0})
        await eventually(lambda: len(world.origin.effects) == 1)
        for server in world.servers.values():
            await server.kill()
        reply = await edge.put("/items/1", {"n": 1})
        assert (reply.status, reply.headers["Retry-After"].isdigit()) == (503, True)
        assert "refused-down" in reply.headers["Cache-Status"]
        assert len(accepted.all) <= 2


@pytest.mark.parametrize(
    "cut",
    [
        lambda requests: [b"".join(requests)],
        lambda requests: [piece for each in requests for piece in (each[:-9], each[-9:])],
        lambda requests: [b"".join(requests)[at : at + 1000] for at in range(0, sum(map(len, requests)), 1000)],
    ],
    ids=["all at once", "the end of each later", "wherever"],
)
async def test_bodies_are_taken_however_they_come(
    tmp_path: Path, accepted: Accepted, cut: Callable[[list[bytes]], list[bytes]]
) -> None:
    head = b"PUT /items/1 HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    async with World(tmp_path) as world:
        edge = await world.edge(rules=[ITEM], sync=Sync(enabled=False))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
        sent = [b"x" * 2000 * (number % 3) + b"<%d>" % number for number in range(40)]
        requests = [head % len(body) + body for body in [b"first", *sent]]
        for piece in cut(requests):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        for _ in requests:
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 202 ")
            length = re.search(rb"\r\nContent-Length: (\d+)", answer)
            assert length is not None
            await reader.readexactly(int(length[1]))
        writer.close()
        assert [record.body for record in accepted.records] == [b"first", *sent]
        assert accepted.planned >= len(sent)
