"""Who has written stays with that region for a while, wherever they come from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohttp_regioncache import Cache, Queue, Region, Rule
from aiohttp_regioncache.pin import PIN_COOKIE, PIN_HEADER, make_pin
from aiohttp_regioncache.principal import Signer
from tests.reads.apps import until_hit
from tests.support import eventually
from tests.support.world import REGIONS, SAO_PAULO, SECRET, TOKYO, Reply, World, forwarding_app, one_edge

ANN = {"Authorization": "Bearer ann"}
AWAY = REGIONS[1]


def as_header(answer: Reply) -> dict[str, str]:
    return {PIN_HEADER: answer.headers[PIN_HEADER]}


def as_cookie(answer: Reply) -> dict[str, str]:
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


@pytest.mark.parametrize("carried", [as_header, as_cookie])
@pytest.mark.parametrize("home", [None, REGIONS[0]])
async def test_who_roams_still_sees_their_own_write(tmp_path: Path, carried: Any, home: str | None) -> None:
    """Also on an edge beside another region's Redis."""
    async with one_edge(tmp_path) as (world, there):
        here = await world.edge(home_region=home)
        world.origin.gate.clear()
        site = {"Host": "shop.example"}
        written = await there.put("/items/1", {"n": 1}, headers=SAO_PAULO | site)
        pin = carried(written) | site
        assert (await here.get("/items/1", headers=TOKYO | site)).status == 404
        seen = await here.get("/items/1", headers=TOKYO | pin)
        assert (json.loads(seen.body), seen.cache_status) == ({"n": 1}, f"regioncache/{AWAY}; hit; detail=dirty")
        later = await here.put("/items/1", {"n": 2}, headers=TOKYO | pin)
        assert later.cache_status == f"regioncache/{AWAY}; detail=write-behind"
        world.origin.gate.set()
        await eventually(lambda: [json.loads(effect.body)["n"] for effect in world.origin.effects] == [1, 2])


@pytest.mark.parametrize("options", [{}, {"answer": "optimistic"}])
@pytest.mark.parametrize("wishes", [{}, {"Prefer": "wait=10"}])
async def test_every_answer_to_a_queued_write_pins(
    tmp_path: Path, options: dict[str, Any], wishes: dict[str, str]
) -> None:
    rules = [Rule("/items/{id}", write="behind", **options)]
    async with one_edge(tmp_path, rules=rules, queue=Queue(pin_seconds=90)) as (_, edge):
        for _ in range(2):  # the repeated request leads to the same place
            answer = await edge.put("/items/1", {}, headers=wishes | {"Idempotency-Key": '"k"'})
            value, *attributes = answer.headers["Set-Cookie"].split("; ")
            assert value == f"{PIN_COOKIE}={answer.headers[PIN_HEADER]}"
            assert sorted(attributes) == ["HttpOnly", "Max-Age=90", "Path=/", "SameSite=Lax"]
        mismatched = await edge.put("/items/1", {"n": 2}, headers={"Idempotency-Key": '"k"'})
        assert (mismatched.status, PIN_HEADER in mismatched.headers) == (422, False)


async def test_a_pin_of_a_safe_connection_stays_on_safe_ones(tmp_path: Path) -> None:
    @web.middleware
    async def behind_tls(request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request.clone(scheme="https"))
        return answer

    app = forwarding_app()
    app.middlewares.append(behind_tls)
    async with World(tmp_path) as world:
        edge = await world.edge(app)
        assert "; Secure" in (await edge.put("/items/1", {})).headers["Set-Cookie"]


async def test_where_there_is_one_region_nobody_is_pinned(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, _):
        only = [Region(REGIONS[0], redis=world.servers[REGIONS[0]].url)]
        edge = await world.edge(regions=only)
        written = await edge.put("/items/1", {})
        assert written.status == 202
        assert not {PIN_HEADER, "Set-Cookie"} & written.headers.keys()


async def test_no_other_pin_chooses_a_region(tmp_path: Path) -> None:
    now, signer = int(time.time()), Signer([SECRET])
    useless = [
        make_pin(Signer(["some other secret of some length"]), AWAY, now + 60),
        make_pin(signer, AWAY, now - 1),
        make_pin(signer, "eu-west-1", now + 60),
        make_pin(signer, AWAY, now + 60)[:-1],
        AWAY,
        "",
    ]
    async with one_edge(tmp_path) as (_, edge):
        for pin in useless:
            for fields in ({PIN_HEADER: pin}, {"Cookie": f"{PIN_COOKIE}={pin}"}):
                answer = await edge.get("/pages/1", headers=TOKYO | fields)
                assert answer.cache_status.startswith(f"regioncache/{REGIONS[0]}; "), fields
        valid = {PIN_HEADER: make_pin(signer, AWAY, now + 60)}
        assert (await edge.get("/pages/1", headers=TOKYO | valid)).cache_status.startswith(f"regioncache/{AWAY}; ")


async def test_while_the_pinned_region_is_down_its_answers_admit_it(tmp_path: Path) -> None:
    async with one_edge(tmp_path) as (world, edge):
        world.origin.documents["/items/1"] = {"n": 0}
        world.origin.gate.clear()
        pin = as_cookie(await edge.put("/items/1", {"n": 1}, headers=SAO_PAULO))
        await world.servers[AWAY].kill()
        read = await edge.get("/items/1", headers=TOKYO | pin)
        assert json.loads(read.body) == {"n": 0}
        assert "detail=behind-unreachable" in read.cache_status
        assert read.headers["Cache-Control"] == "private, no-store"
        refused = await edge.put("/items/1", {"n": 2}, headers=TOKYO | pin)
        assert (refused.status, "Retry-After" in refused.headers) == (503, True)
        assert refused.cache_status == f"regioncache/{AWAY}; detail=refused-down"
        other = await edge.get("/items/1", headers=TOKYO)
        assert "behind-unreachable" not in other.cache_status


async def test_our_own_cookie_is_nobody_elses_business(tmp_path: Path) -> None:
    """Neither the origin's, nor that of keys: who was pinned finds what others have stored, and is the same user."""
    async with one_edge(tmp_path, cache=Cache(cookies_are_credentials=False)) as (world, edge):
        world.origin.documents |= {"/pages/1": {"n": 1}, "/items/1": {}}
        world.origin.extra_headers = {"Vary": "Cookie"}
        pinned = await edge.put("/items/2", {}, headers={"Cookie": "a=1"})
        ours = as_cookie(pinned)["Cookie"]
        await until_hit(edge, "/pages/1", headers={"Cookie": "a=1"})
        hit = await edge.get("/pages/1", headers={"Cookie": f"{ours}; a=1"} | as_header(pinned))
        assert "; hit" in hit.cache_status
        page = pinned.headers["Location"]
        assert (await edge.get(page, headers={"Cookie": f"a=1; {ours}"})).status == 200
        fields = {"Cookie": f"a=1; {ours}; b=2"} | as_header(pinned)
        for method, path in (("GET", "/pages/2"), ("PUT", "/pages/3"), ("PUT", "/items/3"), ("OPTIONS", "/pages/4")):
            await edge.ask(method, path, data=b"{}" if method == "PUT" else None, headers=fields)

        def has_arrived() -> bool:
            paths = {request.path for request in world.origin.requests}
            return {"/pages/2", "/pages/3", "/items/3", "/pages/4"} <= paths

        await eventually(has_arrived)
        for request in world.origin.requests:
            assert "regioncache-pin" not in str(request.headers).lower()
            if request.path[-1] in "34" and "items" not in request.path:
                assert request.headers["Cookie"] == "a=1; b=2"
