"""Bulk requests against a real bulk endpoint: what goes together, what each answer means, and what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import os
import re
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from aiohttp_regioncache.origins.origins import Origins
from aiohttp_regioncache.principal import Signer
from aiohttp_regioncache.regions import Region
from aiohttp_regioncache.replays import REPLAY_HEADER, verify_replay
from aiohttp_regioncache.rules import Bulk, BulkAnswer, BulkItem, BulkRequest, ItemAnswer, Rule
from aiohttp_regioncache.settings import Settings, Sync
from aiohttp_regioncache.store import queue
from aiohttp_regioncache.store.accepting import Acceptance
from aiohttp_regioncache.store.region import RegionStore
from aiohttp_regioncache.sync.batcher import Reply
from aiohttp_regioncache.sync.bulk import decode_json, encode_json
from aiohttp_regioncache.sync.loop import SyncLoop
from aiohttp_regioncache.sync.outcome import Attempt
from aiohttp_regioncache.sync.outlets import OneOutlet, Outlet
from aiohttp_regioncache.sync.sender import Sender
from aiohttp_regioncache.upstream import plain_upstream
from tests.store.tools import TOKYO, acceptance, claim_one, end_lease, opened
from tests.support import eventually
from tests.support.servers import ValkeyServer
from tests.support.world import SECRET, one_edge
from tests.sync.bulk_origin import BulkOrigin, bulk_origin
from tests.sync.test_sender import serving
from tests.sync.tools import QUICK, accept_all, drained, looping, state_of, status_of

SIGNER = Signer([SECRET])
Items = list[dict[str, Any]]


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[BulkOrigin]:
    async with bulk_origin() as origin:
        yield origin


def bulks(**options: Any) -> dict[str, Bulk]:
    """The forms of an edge that knows `/bulk`."""
    return {"/bulk": Bulk("/bulk", **options)}


def write(path: str, n: int, **changes: Any) -> Acceptance:
    """A PUT of a number that goes to the bulk endpoint; `changes` to its record."""
    made = acceptance(path, body=json.dumps({"n": n}).encode())
    return msgspec.structs.replace(made, record=msgspec.structs.replace(made.record, **{"bulk": "/bulk"} | changes))


def numbered(count: int, paths: int, **changes: Any) -> list[Acceptance]:
    """Writes of 0, 1, 2, ... that go round some paths."""
    return [write(f"/items/{n % paths}", n, **changes) for n in range(count)]


async def states(store: RegionStore, writes: Sequence[Acceptance]) -> Counter[str]:
    """What writes have come to."""
    return Counter([await state_of(store, each) for each in writes])


# --- what goes together ---


async def test_writes_of_many_resources_go_together_and_those_of_one_in_their_order(
    store: RegionStore, origin: BulkOrigin
) -> None:
    writes = numbered(360, paths=120)
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(max_writes=50)):
        await drained(store)
    for path in range(120):
        assert origin.applied(f"/items/{path}") == [path, path + 120, path + 240]
    for batch in origin.batches:
        paths = [item["path"] for item in batch]
        assert len(paths) == len(set(paths)) <= 50
    assert len(origin.batches) <= 30
    assert not origin.alone
    assert await states(store, writes) == {"synced": 360}


async def test_each_write_carries_its_own_key_credentials_and_mark_and_the_request_none_of_them(
    store: RegionStore, origin: BulkOrigin
) -> None:
    hers = write(
        "/items/1", 1, principal="hers", headers=((b"Authorization", b"Bearer hers"),), endpoint="/items/1?a=b"
    )
    his = write("/items/2", 2, principal="his", headers=((b"Cookie", b"session=his"), (b"X-Raw", b"caf\xe9")))
    await accept_all(store, [hers, his])
    async with looping(store, origin.url, bulks=bulks()):
        await drained(store)
    (batch,) = origin.batches
    items = {item["path"]: item for item in batch}
    for each, path in ((hers, "/items/1?a=b"), (his, "/items/2")):
        item = items[path]
        assert (item["method"], item["body"]) == ("PUT", each.record.body.decode())
        assert item["idempotency_key"] == each.record.idempotency_key
        headers = dict(item["headers"])
        mark = verify_replay(SIGNER, headers.pop(REPLAY_HEADER), "PUT", path, now=time.time())
        assert mark is not None
        assert mark.id == each.record.id
        expected = [(name.decode(), value.decode("latin-1")) for name, value in each.record.headers]
        assert list(headers.items()) == expected
    (request,) = origin.requests
    assert not {"Authorization", "Cookie", "Idempotency-Key"} & set(request.headers)
    assert request.headers["CDN-Loop"] == "test"
    assert verify_replay(SIGNER, request.headers[REPLAY_HEADER], "POST", "/bulk", now=time.time())


async def test_a_service_credential_stands_in_place_of_any_other(store: RegionStore, origin: BulkOrigin) -> None:
    stored = ((b"Authorization", b"Bearer hers"), (b"Cookie", b"session=hers"))
    await accept_all(store, [write("/items/1", 1, headers=stored), write("/items/2", 2, headers=stored, bulk="")])
    async with looping(store, origin.url, bulks=bulks(), authorization="Bearer service"):
        await drained(store)
    assert [request.headers.getall("Authorization") for request in origin.requests] == [["Bearer service"]] * 2
    assert not any("Cookie" in request.headers for request in origin.requests)
    named = {name: value for name, value in origin.batches[0][0]["headers"] if name != REPLAY_HEADER}
    assert named == {"Authorization": "Bearer service"}


async def test_requests_stay_within_their_bytes_and_what_is_larger_goes_alone(
    store: RegionStore, origin: BulkOrigin
) -> None:
    writes = [write(f"/items/{n}", 10**100 + n) for n in range(40)]
    large = acceptance("/items/large", body=b'{"n": "' + b"x" * 2_000 + b'"}', stored=True)
    large = msgspec.structs.replace(large, record=msgspec.structs.replace(large.record, bulk="/bulk"))
    await accept_all(store, [*writes, large])
    async with looping(store, origin.url, bulks=bulks(max_bytes=1_000)):
        await drained(store)
    assert max(sum(len(item["body"]) for item in batch) for batch in origin.batches) <= 1_000
    assert len(origin.batches) < 20
    assert origin.alone == ["/items/large"]
    assert len(origin.effects) == 41


async def test_what_this_edge_knows_no_endpoint_for_and_what_must_not_be_repeated_goes_alone(
    store: RegionStore, origin: BulkOrigin
) -> None:
    await accept_all(store, [write("/items/1", 1, bulk="/other"), write("/items/2", 2, repeatable=False)])
    async with looping(store, origin.url, bulks=bulks()):
        await drained(store)
    assert sorted(origin.alone) == ["/items/1", "/items/2"]
    assert not origin.batches


async def test_single_writes_and_bulk_requests_share_the_slots(store: RegionStore, origin: BulkOrigin) -> None:
    origin.gate.clear()
    await accept_all(store, [write(f"/items/{n}", n, bulk="/bulk" if n % 2 else "") for n in range(40)])
    async with looping(store, origin.url, bulks=bulks(max_writes=5), concurrency=3):
        await eventually(lambda: origin.in_flight == 3)
        origin.gate.set()
        await drained(store)
        most = 0
        origin.gate.clear()
        await accept_all(store, numbered(40, paths=40))
        await eventually(lambda: origin.in_flight == 3)
        for _ in range(20):
            await asyncio.sleep(0)
            most = max(most, origin.in_flight)
        assert most == 3
        origin.gate.set()
        await drained(store)
    assert len(origin.effects) == 80


# --- answers ---


async def test_each_write_gets_its_own_outcome_by_its_key(store: RegionStore, origin: BulkOrigin) -> None:
    writes = numbered(8, paths=8)
    origin.refuse = {"/items/2": 422, "/items/5": 503}

    def shape(items: Items, outcomes: Items) -> web.Response:
        # One that is refused for now, one of which nothing is said, and the order turned round.
        said = [outcome for item, outcome in zip(items, outcomes, strict=True) if item["path"] != "/items/6"]
        return web.json_response({"responses": said[::-1]}, status=207)

    origin.shape = shape
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(), start=False) as loop:
        assert await loop.turn() == 8
        assert await state_of(store, writes[2]) == "rejected: status 422"
        assert await states(store, writes) == {"synced": 5, "rejected: status 422": 1, "pending": 2}
        assert (await status_of(store, writes[6]))["unknown"] == "1"
        assert (await status_of(store, writes[5]))["problem"] == "status 503"
        origin.refuse.clear()
        origin.shape = lambda _, outcomes: web.json_response(outcomes)
        loop.start()
        await drained(store)
    assert await states(store, writes) == {"synced": 7, "rejected: status 422": 1}
    assert len(origin.effects) == 7


GARBAGE = [
    b"", b"no JSON", b"null", b"[]", b'{"responses": 3}', b"[1, 2]", b'[{"status": 200}]', b'[{"status": true}, {}]',
    b'[{"idempotency_key": "another", "status": 200}]', b"[" * 100_000, b'[{"status": 99}, {"status": "200"}]', b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_an_answer_that_says_nothing_of_its_writes_loses_none_of_them(
    store: RegionStore, origin: BulkOrigin, garbage: bytes
) -> None:
    origin.shape = lambda items, outcomes: web.Response(body=garbage)
    writes = [write("/items/1", 1), write("/items/2", 2)]
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks()):
        await drained(store)
    assert sorted(len(batch) for batch in origin.batches) == [1, 1, 2]
    assert len(origin.effects) == 2
    assert await states(store, writes) == {"synced": 2}


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["status", "headers", "body", "idempotency_key", "responses", "base64"]), inner, max_size=5
    ),
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_no_answer_makes_the_json_form_raise(body: bytes) -> None:
    items = [BulkItem("PUT", f"/{n}", (), b"", f"key-{n}") for n in range(2)]
    answers = decode_json(BulkAnswer(200, (), body), items)
    assert answers is None or len(answers) == 2


def test_the_json_form_carries_any_octets() -> None:
    headers = (("X-A", "1"), ("X-A", "2"), ("X-Raw", b"caf\xe9".decode("utf-8", "surrogateescape")))
    items = [BulkItem("PUT", "/a?b", headers, "é".encode(), "k1"), BulkItem("PUT", "/b", (), b"\xff\x00", "k2")]
    first, second = json.loads(encode_json(items).body)
    assert first == {
        "method": "PUT", "path": "/a?b", "headers": [["X-A", "1"], ["X-A", "2"], ["X-Raw", "café"]], "body": "é",
        "idempotency_key": "k1",
    }  # fmt: skip
    assert base64.b64decode(second["body"]["base64"]) == b"\xff\x00"
    answer = [
        {"status": 200, "headers": {"ETag": '"1"'}, "body": {"base64": "/wA="}},
        {"status": 201, "headers": [["Location", "/b"], "nonsense"], "body": {"any": "JSON"}},
    ]
    assert decode_json(BulkAnswer(200, (), json.dumps(answer).encode()), items) == [
        ItemAnswer(200, (("ETag", '"1"'),), b"\xff\x00"),
        ItemAnswer(201, (("Location", "/b"),), b'{"any": "JSON"}'),
    ]


async def test_the_origins_answer_to_a_write_is_kept_as_if_it_had_gone_alone(
    store: RegionStore, origin: BulkOrigin
) -> None:
    origin.shape = lambda items, outcomes: web.json_response(
        [{"status": 201, "headers": [["Location", "/items/7"], ["ETag", '"1"']], "body": "made"}]
    )
    made = write("/items/1", 1)
    await accept_all(store, [made])
    async with looping(store, origin.url, bulks=bulks()):
        await drained(store)
    status = await status_of(store, made)
    assert (status["answer"], status["answer_body"]) == ("201", "made")
    assert dict(json.loads(status["answer_headers"])) == {"Location": "/items/7", "ETag": '"1"'}


# --- one that spoils the others ---


@pytest.mark.parametrize("status", [400, 302, 501])
async def test_the_guilty_write_of_a_refused_request_is_soon_alone(
    store: RegionStore, origin: BulkOrigin, status: int
) -> None:
    writes = numbered(64, paths=64)
    origin.spoil = {"/items/37": status}
    origin.refuse = {"/items/37": 422}
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(max_writes=64)):
        await drained(store)
    assert await states(store, writes) == {"synced": 63, "rejected: status 422": 1}
    assert len(origin.effects) == 63
    assert len(origin.batches) <= 1 + 2 * math.log2(64)
    assert origin.alone == ["/items/37"]


async def test_an_endpoint_that_is_not_there_rejects_no_write(store: RegionStore, origin: BulkOrigin) -> None:
    writes = numbered(20, paths=20)
    origin.spoil = {f"/items/{n}": 404 for n in range(20)}
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks()):
        await drained(store)
    assert await states(store, writes) == {"synced": 20}
    assert len(origin.alone) == 20


async def test_an_endpoint_that_answers_yes_to_everything_loses_no_write(store: RegionStore) -> None:
    applied: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        applied.append(request.path)
        return web.Response(text="welcome")

    writes = numbered(5, paths=5)
    await accept_all(store, writes)
    async with serving(handler) as url, looping(store, url, bulks=bulks()):
        await drained(store)
    assert await states(store, writes) == {"synced": 5}
    assert {path for path in applied if path != "/bulk"} == {f"/items/{n}" for n in range(5)}


@pytest.mark.parametrize("status", [500, 504])
async def test_a_write_that_breaks_every_request_it_is_in_does_not_take_the_others_with_it(
    store: RegionStore, origin: BulkOrigin, status: int
) -> None:
    writes = numbered(40, paths=40, max_tries=8)
    origin.spoil = {"/items/7": status}
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(), breaker_failures=1000):
        await drained(store)
    assert await states(store, writes) == {"synced": 39, "dead: too-many-tries": 1}
    assert len(origin.effects) == 39


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "each"])
async def test_an_outage_is_one_failure_per_request_and_burns_no_tries(
    store: RegionStore, origin: BulkOrigin, whole: bool
) -> None:
    writes = numbered(30, paths=30)
    refused = {each.record.path: 503 for each in writes}
    origin.spoil, origin.refuse = (refused, {}) if whole else ({}, refused)
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(), breaker_failures=2, breaker_seconds=3600.0) as loop:
        await eventually(lambda: loop._outlets.is_closed)
    assert len(origin.batches) == 2
    tries = [int((await status_of(store, each))["tries"]) for each in writes]
    assert max(tries) <= 1


async def test_what_waits_for_a_slot_is_not_sent_to_an_origin_that_is_left_alone_meanwhile(
    store: RegionStore, origin: BulkOrigin
) -> None:
    writes = numbered(30, paths=30, bulk="")
    origin.refuse = {each.record.path: 503 for each in writes}
    await accept_all(store, writes)
    async with looping(
        store, origin.url, start=False, bulks=bulks(), concurrency=1, breaker_failures=5, breaker_seconds=3600.0
    ) as loop:
        assert await loop.turn() == 30
    assert len(origin.requests) == 5


async def test_an_origin_that_is_left_alone_is_left_alone_by_every_loop_of_an_edge(
    tmp_path: Path, origin: BulkOrigin
) -> None:
    async with (
        ValkeyServer(tmp_path / "one") as first,
        ValkeyServer(tmp_path / "other") as second,
        opened(first.url) as one,
        opened(second.url) as other,
        Origins() as origins,
    ):
        sync = Sync(breaker_failures=2, breaker_seconds=3600.0, retry_base=0.01, retry_cap=0.02)
        settings = Settings(
            origin=origin.url, regions=(Region(TOKYO, redis=one.address),), secrets=(SECRET,), sync=sync
        )
        sender = Sender(origins, plain_upstream(origin.url), SIGNER, "test", sync)
        loops = [SyncLoop(store, settings, OneOutlet(Outlet(sender))) for store in (one, other)]
        origin.refuse = {"/items/1": 503}
        await accept_all(one, [write("/items/1", 1)])
        while not sender.breaker.is_open:
            await loops[0].turn()
        await accept_all(other, [write("/items/2", 2)])
        assert await loops[1].turn() == 0
        assert not origin.applied("/items/2")


# --- unknown outcomes ---


async def test_a_request_that_is_never_answered_holds_up_no_other_and_is_sent_again(
    store: RegionStore, origin: BulkOrigin
) -> None:
    origin.between.clear()
    stuck, later = numbered(2, paths=2), [write("/items/later", 9)]
    await accept_all(store, stuck)
    async with looping(store, origin.url, bulks=bulks(), timeout=0.3):
        await eventually(lambda: len(origin.effects) == 1)
        await accept_all(store, later)
        await eventually(lambda: bool(origin.applied("/items/later")))
        await eventually(lambda: len(origin.batches) > 2)
        origin.between.set()
        await drained(store)
    assert await states(store, [*stuck, *later]) == {"synced": 3}
    assert len(origin.effects) == 3


@pytest.mark.parametrize(
    "first", [{"body": b"garbage"}, {"status": 500}], ids=["said nothing", "broke off in the middle"]
)
async def test_a_precondition_that_fails_after_a_request_that_may_have_been_applied_is_ambiguous(
    store: RegionStore, origin: BulkOrigin, first: dict[str, Any]
) -> None:
    answers = iter([web.Response(**first)])

    def shape(_: Items, outcomes: Items) -> web.Response:
        origin.refuse = {"/items/0": 412}  # it has been applied, and so its If-Match no longer holds
        return next(answers, None) or web.json_response(outcomes)

    origin.shape = shape
    writes = numbered(2, paths=2)
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks()):
        await drained(store)
    assert await state_of(store, writes[0]) == "dead: ambiguous"
    assert await state_of(store, writes[1]) == "synced"


async def test_a_process_killed_between_two_writes_loses_none_and_doubles_none(
    server: ValkeyServer, store: RegionStore, origin: BulkOrigin
) -> None:
    origin.between.clear()
    writes = numbered(24, paths=8)
    await accept_all(store, writes)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sync.worker", server.url, origin.url, "/bulk"
    )
    try:
        await eventually(lambda: len(origin.effects) == 1)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
    origin.between.set()
    async with looping(store, origin.url, bulks=bulks(), **QUICK):
        await drained(store)
    for n in range(8):
        assert origin.applied(f"/items/{n}") == list(range(n, 24, 8))
    assert await states(store, writes) == {"synced": 24}


async def test_what_belongs_to_another_sender_by_now_is_left_out_when_a_refused_request_goes_again(
    store: RegionStore, client: Redis, origin: BulkOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    writes = numbered(4, paths=4)
    partition, taken = store.partitions[0], writes[3]
    origin.spoil = {"/items/0": 400}
    origin.gate.clear()
    await accept_all(store, writes)
    # What is left of a lease after the first request is too short for another.
    async with looping(store, origin.url, start=False, bulks=bulks(), lease=2.0, timeout=1.0) as loop:
        turn = asyncio.ensure_future(loop.turn())
        await eventually(lambda: origin.in_flight == 1)
        await end_lease(client, partition, taken.target.digest)
        (claimed,) = await queue.claim(store, partition, "another", 10, 60.0)
        assert claimed.digest == taken.target.digest
        await asyncio.sleep(0.7)
        origin.gate.set()
        await turn
    assert "belongs to another sender now" in caplog.text
    assert [await state_of(store, each) for each in writes] == ["synced", "synced", "synced", "pending"]
    assert not origin.applied("/items/3")
    assert all("/items/3" not in [item["path"] for item in batch] for batch in origin.batches[1:])


# --- several writes of one resource ---


async def test_an_origin_that_keeps_order_gets_the_writes_of_a_resource_together(
    store: RegionStore, origin: BulkOrigin
) -> None:
    origin.keeps_order = True
    writes = numbered(60, paths=3)
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(keeps_order=True, max_writes=100)):
        await drained(store)
    for n in range(3):
        assert origin.applied(f"/items/{n}") == list(range(n, 60, 3))
    assert len(origin.batches) <= 3
    assert await states(store, writes) == {"synced": 60}


async def test_what_stands_behind_one_that_failed_is_sent_again_with_its_key(
    store: RegionStore, origin: BulkOrigin
) -> None:
    origin.keeps_order = True
    refused = write("/items/0", 2, endpoint="/refused")
    writes = [write("/items/0", 0), write("/items/0", 1), refused, write("/items/0", 3), write("/items/0", 4)]
    origin.refuse = {"/refused": 422}
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(keeps_order=True)):
        await drained(store)
    assert [len(batch) for batch in origin.batches] == [5, 2]
    assert origin.applied("/items/0") == [0, 1, 3, 4]
    assert await states(store, writes) == {"synced": 4, "rejected: status 422": 1}


async def test_the_guilty_write_among_those_of_one_resource_is_found(store: RegionStore, origin: BulkOrigin) -> None:
    origin.keeps_order = True
    guilty = write("/items/0", 5, endpoint="/guilty")
    writes = [*numbered(5, paths=1), guilty, *[write("/items/0", n) for n in range(6, 12)]]
    origin.spoil = {"/guilty": 413}
    origin.refuse = {"/guilty": 422}
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(keeps_order=True)):
        await drained(store)
    assert origin.applied("/items/0") == [*range(5), *range(6, 12)]
    assert await state_of(store, guilty) == "rejected: status 422"
    assert origin.alone == ["/guilty"]


@pytest.mark.parametrize("vanishes", [False, True], ids=["answer lost", "sender lost"])
async def test_of_all_writes_that_went_out_together_it_is_kept_that_nobody_knows_what_became_of_them(
    store: RegionStore, origin: BulkOrigin, vanishes: bool
) -> None:
    origin.keeps_order = True
    writes = [write("/items/0", n, on_dead="skip") for n in range(3)]
    origin.shape = lambda items, outcomes: None
    origin.after.clear()
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(keeps_order=True), start=False, **QUICK) as loop:
        turn = asyncio.ensure_future(loop.turn())
        await eventually(lambda: len(origin.effects) == 3)
        if vanishes:
            turn.cancel()
        origin.after.set()
        with contextlib.suppress(asyncio.CancelledError):
            await turn

    async def is_answered(request: web.BaseRequest) -> web.StreamResponse:
        items = json.loads(await request.text())
        return web.json_response([{"status": 200 if item["body"] == '{"n": 0}' else 412} for item in items])

    async with serving(is_answered) as url, looping(store, url, bulks=bulks(keeps_order=True), **QUICK):
        await drained(store)
    assert await states(store, writes) == {"synced": 1, "dead: ambiguous": 2}


async def test_an_edge_that_does_not_know_the_form_reckons_that_a_sender_that_vanished_did(
    store: RegionStore, client: Redis
) -> None:
    writes = [write("/items/0", n, on_dead="skip") for n in range(3)]
    await accept_all(store, writes)
    await claim_one(store, store.partitions[0], "vanished")
    await end_lease(client, store.partitions[0], writes[0].target.digest)

    async def is_answered(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=200 if await request.text() == '{"n": 0}' else 412)

    async with serving(is_answered) as url, looping(store, url, **QUICK):
        await drained(store)
    assert await states(store, writes) == {"synced": 1, "dead: ambiguous": 2}


def test_what_an_origin_says_of_writes_behind_one_that_failed_leaves_them_in_doubt() -> None:
    well, busy, refused = Attempt(200), Attempt(503), Attempt(424)
    reply = Reply((well, busy, well, refused, Attempt(504)))
    assert reply.doubtful(["PUT"] * 6) == [2, 4]
    assert Reply((well, well)).doubtful(["PUT"] * 2) == []
    assert Reply((well,), doubted=True).doubtful(["PUT"] * 3) == [1, 2]
    assert Reply(alone=True, doubted=True).doubtful(["PUT"]) == [0]


# --- forms of one's own ---


def lines(items: Sequence[BulkItem]) -> BulkRequest:
    """One write per line."""
    return BulkRequest(b"\n".join(item.target.encode() for item in items), "text/plain", "PUT")


def answered(answer: BulkAnswer, items: Sequence[BulkItem]) -> list[ItemAnswer]:
    """One status per line."""
    assert answer.headers
    return [ItemAnswer(int(line)) for line in answer.body.split()]


async def test_an_endpoint_may_have_a_form_of_its_own(store: RegionStore) -> None:
    seen: list[tuple[str, str, str]] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        body = await request.text()
        seen.append((request.method, request.content_type, body))
        return web.Response(text="\n".join("410" if "3" in line else "204" for line in body.split()))

    writes = numbered(5, paths=5)
    await accept_all(store, writes)
    async with serving(handler) as url, looping(store, url, bulks=bulks(encode=lines, decode=answered)):
        await drained(store)
    ((method, media_type, body),) = seen
    assert (method, media_type) == ("PUT", "text/plain")
    assert sorted(body.split()) == [f"/items/{n}" for n in range(5)]
    assert await states(store, writes) == {"synced": 4, "rejected: status 410": 1}


def _raises(*_: Any) -> Any:
    raise LookupError("a mistake")


BAD_ENCODE: list[Callable[..., Any]] = [
    _raises, lambda _: None, lambda _: BulkRequest("text"), lambda _: BulkRequest(b"", "a\r\nb: c"),  # type: ignore[arg-type]
    lambda _: BulkRequest(b"", method="PO ST"),
]  # fmt: skip


@pytest.mark.parametrize("encode", BAD_ENCODE, ids=range(len(BAD_ENCODE)))
async def test_writes_that_cannot_be_encoded_go_alone_and_it_is_said_once(
    store: RegionStore, origin: BulkOrigin, caplog: pytest.LogCaptureFixture, encode: Callable[..., Any]
) -> None:
    writes = numbered(9, paths=3)
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(encode=encode)):
        await drained(store)
    assert len(origin.alone) == 9
    assert await states(store, writes) == {"synced": 9}
    assert caplog.text.count("encode of bulk endpoint /bulk failed") == 1


BAD_DECODE: list[Callable[..., Any]] = [
    _raises, lambda *_: 3, lambda *_: [], lambda *_: [1, 2], lambda *_: [ItemAnswer("200"), ItemAnswer(200)],  # type: ignore[arg-type]
    lambda *_: [ItemAnswer(200, body="text"), ItemAnswer(200)], lambda *_: None,  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize("decode", BAD_DECODE, ids=range(len(BAD_DECODE)))
async def test_answers_that_cannot_be_decoded_lose_no_write(
    store: RegionStore, origin: BulkOrigin, caplog: pytest.LogCaptureFixture, decode: Callable[..., Any]
) -> None:
    writes = numbered(2, paths=2)
    await accept_all(store, writes)
    async with looping(store, origin.url, bulks=bulks(decode=decode)):
        await drained(store)
    assert sorted(len(batch) for batch in origin.batches) == [1, 1, 2]
    assert await states(store, writes) == {"synced": 2}
    assert caplog.text.count("decode of bulk endpoint /bulk failed") <= 1


# --- leases ---


async def test_a_loop_that_stops_gives_back_what_waits_for_a_request(store: RegionStore, origin: BulkOrigin) -> None:
    origin.gate.clear()
    await accept_all(store, numbered(30, paths=30))
    async with (
        looping(store, origin.url, bulks=bulks(max_writes=5), concurrency=1) as leaving,
        looping(store, origin.url, bulks=bulks(max_writes=5), start=False) as next_one,
    ):
        await eventually(lambda: origin.in_flight == 1)
        stopping = asyncio.ensure_future(leaving.stop())
        await eventually(lambda: leaving.is_stopping)
        origin.gate.set()
        await stopping
        assert len(origin.batches) == 1
        next_one.start()
        await drained(store)  # the leases are a minute long
    assert len(origin.effects) == 30


async def test_hundreds_of_writes_of_one_resource_are_sent_under_one_fence(
    store: RegionStore, origin: BulkOrigin
) -> None:
    writes = numbered(150, paths=1, bulk="")

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return await origin.handle(request)

    await accept_all(store, writes)
    async with serving(slow) as url, looping(store, url, lease=1.0, timeout=0.7):
        await drained(store)
    fences = {request.headers[REPLAY_HEADER].split(";")[2] for request in origin.requests}
    assert len(fences) == 1
    assert origin.applied("/items/0") == list(range(150))


# --- the documentation ---

DOCUMENT = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text("utf-8")


def _examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_the_documented_requests_and_answers_are_those_of_the_json_form() -> None:
    request, answer = _examples("json")
    described = json.loads(request)
    items = [
        BulkItem(each["method"], each["path"], [tuple(pair) for pair in each["headers"]], body, each["idempotency_key"])
        for each, body in zip(described, (b'{"name": "one"}', base64.b64decode("iVBORw0KGgo=")), strict=True)
    ]
    assert json.loads(encode_json(items).body) == described
    answers = decode_json(BulkAnswer(207, (), answer.encode()), items)
    assert answers is not None
    assert [each.status for each in answers] == [200, 422]


def test_the_documented_settings_and_functions_work() -> None:
    rule, functions = (_run(example) for example in _examples("python"))
    assert rule["rule"].bulk.endpoint == "/bulk"
    (settings,) = _examples("toml")
    assert Rule(**_rule(tomllib.loads(settings))).bulk is not None
    items = [BulkItem("PUT", "/a", (), b"text", "k1"), BulkItem("PUT", "/b", (), b"", "k2")]
    assert functions["encode"](items).body.count(b"\n") == 1
    assert functions["decode"](BulkAnswer(200, (), b"200\n409\n"), items) == [ItemAnswer(200), ItemAnswer(409)]


def _run(example: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "document"}
    exec(compile(example, "bulk.md", "exec"), names)  # noqa: S102 - our own page
    return names


def _rule(document: dict[str, Any]) -> dict[str, Any]:
    (rule,) = document["rules"]
    return {**rule, "bulk": msgspec.convert(rule["bulk"], Bulk)}


# --- an edge ---


async def test_a_rule_with_a_bulk_endpoint_sends_its_writes_there(tmp_path: Path, origin: BulkOrigin) -> None:
    rule = Rule("/items/{id}", write="behind", affects=[], bulk=Bulk("/bulk"))
    async with one_edge(tmp_path, rules=[rule], origin=origin.url) as (_, edge):
        origin.gate.clear()
        for n in range(20):
            assert (await edge.put(f"/items/{n}", {"n": n})).status == 202
        waiting = asyncio.ensure_future(edge.put("/items/1", {"n": 100}, headers={"Prefer": "wait=10"}))
        await eventually(lambda: origin.in_flight > 0)
        origin.gate.set()
        assert (await waiting).status == 200
        await eventually(lambda: len(origin.effects) == 21)
    assert origin.applied("/items/1") == [1, 100]
    assert not origin.alone
