"""The signed webhook that wakes the sync loops."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from multidict import CIMultiDict

from aiohttp_regioncache import SettingsError, Webhook
from aiohttp_regioncache.control.webhook import MAX_BODY, Verifier
from tests.support import eventually
from tests.support.world import REGIONS, Edge, Reply, World, one_edge

OLD, NEW = ("whsec_" + base64.b64encode(name * 24).decode() for name in (b"o", b"n"))
MOMENTO = "a secret of momento's"
NOW = 1_800_000_000.25
SYNC = "/_regioncache/sync"


def standard(body: bytes = b"{}", secret: str = NEW, *, now: float = NOW, name: str = "msg_1") -> dict[str, str]:
    stamp = datetime.fromtimestamp(int(now), UTC)
    signature = standardwebhooks.Webhook(secret).sign(name, stamp, body.decode())
    return {"webhook-id": name, "webhook-timestamp": str(int(now)), "webhook-signature": signature}


def momento(body: bytes, secret: str = MOMENTO) -> dict[str, str]:
    return {"momento-signature": hmac.new(secret.encode(), body, hashlib.sha3_256).hexdigest()}


def published(seconds: float = NOW) -> bytes:
    return json.dumps({"cache": "c", "topic": "t", "text": "x", "publish_timestamp": int(seconds * 1000)}).encode()


def is_taken(headers: Mapping[str, str], body: bytes, **settings: Any) -> bool:
    verifier = Verifier(
        Webhook(**({"secrets": [NEW, OLD], "momento_secrets": [MOMENTO, "the next one of them"]} | settings))
    )
    return verifier.refusal(CIMultiDict(headers), body, NOW) is None


def test_signed_calls_are_taken_and_others_refused() -> None:
    taken = [
        (standard(), b"{}"),
        (standard(secret=OLD), b"{}"),
        (
            standard(b"no json") | {"Webhook-Signature": "v1a,x v1, " + standard(b"no json")["webhook-signature"]},
            b"no json",
        ),
        (standard(now=NOW - 299), b"{}"),
        (momento(published()), published()),
        (momento(published(), "the next one of them"), published()),
        (momento(published(NOW - 59)), published(NOW - 59)),
        ({"Momento-Signature": momento(published())["momento-signature"].upper()}, published()),
    ]
    stranger = "whsec_" + base64.b64encode(b"s" * 24).decode()
    refused = [
        ({}, b"{}"),
        (standard(), b"{} "),
        (standard(secret=stranger), b"{}"),
        (standard() | {"webhook-id": "msg_2"}, b"{}"),
        (standard() | {"webhook-timestamp": str(int(NOW) + 1)}, b"{}"),
        (standard(now=NOW - 302), b"{}"),
        (standard(now=NOW + 302), b"{}"),
        (momento(published(), "of nobody"), published()),
        (momento(published()), published() + b" "),
        (momento(published(NOW - 61)), published(NOW - 61)),
        (momento(published(NOW + 61)), published(NOW + 61)),
        (momento(b"{}"), b"{}"),
    ]
    assert [is_taken(*call) for call in taken] == [True] * len(taken)
    assert [is_taken(*call) for call in refused] == [False] * len(refused)


def test_a_form_without_a_secret_is_refused() -> None:
    assert not is_taken(standard(), b"{}", secrets=())
    assert not is_taken(momento(published()), published(), momento_secrets=())
    empty = hmac.new(b"", published(), hashlib.sha3_256).hexdigest()
    assert not is_taken({"momento-signature": empty}, published(), momento_secrets=())


HOSTILE: list[tuple[dict[str, str], bytes]] = [
    (standard() | {"webhook-signature": "\udcff\udcfe"}, b"{}"),
    (standard() | {"webhook-signature": ", ,, v1,"}, b"{}"),
    (standard() | {"webhook-signature": ""}, b"{}"),
    (standard() | {"webhook-id": "\udcff"}, b"{}"),
    ({"webhook-signature": "v1,x"}, b"{}"),
    *[(standard() | {"webhook-timestamp": moment}, b"{}") for moment in ("", "x", "1e9", "-1", "²", "9" * 400, "nan")],
    (standard(), b"\xff"),
    ({"momento-signature": "\udcff"}, b"{}"),
    *[
        (momento(body), body)
        for body in (
            b"", b"\xff", b"{", b"[" * 500_000, b'{"a":' * 100_000, b"null", b"[1]", b'{"publish_timestamp": null}',
            b'{"publish_timestamp": "1"}', b'{"publish_timestamp": 1e999}', b'{"publish_timestamp": NaN}',
            b'{"publish_timestamp": ' + b"9" * 5000 + b"}", b'{"publish_timestamp": true}',
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize("call", HOSTILE, ids=range(len(HOSTILE)))
def test_garbage_is_refused(call: tuple[dict[str, str], bytes]) -> None:
    assert not is_taken(*call)


@pytest.mark.parametrize(
    "settings", [{"secrets": ["whsec_é"]}, {"secrets": ["whsec_dGVh"]}, {"secrets": [""]}, {"momento_secrets": [""]}]
)
def test_secrets_that_are_none_are_refused_at_start(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"webhook.{next(iter(settings))}: one "):
        Verifier(Webhook(**settings))


async def test_a_missing_package_is_named_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "standardwebhooks", None)
    assert is_taken(momento(published()), published(), secrets=())
    async with World(tmp_path) as world:
        with pytest.raises(SettingsError, match=r"aiohttp-regioncache\[webhook\]"):
            await world.edge(webhook=Webhook(secrets=[NEW]))


async def call(edge: Edge, body: bytes = b"{}") -> Reply:
    return await edge.ask("POST", SYNC, data=io.BytesIO(body), headers=standard(body, now=time.time()))


async def test_a_call_drains_what_waits(tmp_path: Path) -> None:
    async with one_edge(tmp_path, webhook=Webhook(secrets=[NEW], wait=10.0)) as (world, edge):
        world.origin.gate.clear()
        for n in range(5):
            await edge.put(f"/items/{n}", {"n": n})
        asking = asyncio.create_task(call(edge))
        await eventually(lambda: world.origin.in_flight.total() == 5)
        assert not asking.done()
        world.origin.gate.set()
        answer = await asking
        assert (answer.status, json.loads(answer.body)) == (200, {"drained": 5, "left": 0})
        assert answer.headers["Cache-Control"] == "no-store"
        assert len(world.origin.effects) == 5
        assert json.loads((await call(edge)).body) == {"drained": 0, "left": 0}


async def test_a_call_wakes_a_loop_that_sleeps(tmp_path: Path) -> None:
    async with one_edge(tmp_path, webhook=Webhook(secrets=[NEW])) as (_, edge):
        woken = []
        for loop in edge.cache.loops:
            loop.wake = lambda: woken.append(1)  # type: ignore[method-assign]
        await call(edge)
        assert len(woken) == len(REGIONS)


async def test_a_call_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    async with one_edge(tmp_path, webhook=Webhook(secrets=[NEW], wait=0.1)) as (world, edge):
        world.origin.gate.clear()
        await edge.put("/items/1", {})
        assert json.loads((await call(edge)).body) == {"drained": 0, "left": 1}


async def test_a_momento_call_is_taken(tmp_path: Path) -> None:
    async with one_edge(tmp_path, webhook=Webhook(momento_secrets=[MOMENTO])) as (_, edge):
        body = published(time.time())
        assert (await edge.ask("POST", SYNC, data=body, headers=momento(body))).status == 200
        assert (await edge.ask("POST", SYNC, data=body, headers=momento(body, "of nobody"))).status == 401


async def test_what_is_no_signed_call_is_refused(tmp_path: Path) -> None:
    async with one_edge(tmp_path, webhook=Webhook(secrets=[NEW])) as (_, edge):
        answers = {
            401: await edge.ask("POST", SYNC, data=b"{}"),
            405: await edge.get(SYNC),
            413: await call(edge, b"x" * (MAX_BODY + 1)),
            404: await edge.ask("POST", SYNC + "/more", data=b"{}"),
            400: await edge.ask("POST", SYNC, data=b"no gzip at all", headers={"Content-Encoding": "gzip"}),
        }
        assert {status: answer.status for status, answer in answers.items()} == {status: status for status in answers}
        assert answers[405].headers["Allow"] == "POST"
        assert {answer.headers["Content-Type"] for answer in answers.values()} == {"application/problem+json"}


async def test_without_secrets_there_is_no_such_page(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (_, edge):
        assert [(await edge.ask(method, SYNC)).status for method in ("POST", "GET")] == [404, 404]


async def test_a_region_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    async with one_edge(tmp_path, webhook=Webhook(secrets=[NEW])) as (world, edge):
        await world.servers[REGIONS[0]].kill()
        answer = await call(edge)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert REGIONS[0] in json.loads(answer.body)["detail"]
