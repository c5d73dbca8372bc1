"""A user's program as mypy sees it: what is right passes, and each mistake marked here is found.

It is never run. An `ignore` that ignores nothing is an error itself, so every marked line is checked to be wrong.
"""

from typing import assert_type

from aiohttp import web

import aiohttp_regioncache as regioncache
from aiohttp_regioncache import UNKNOWN, Representation, Write
from aiohttp_regioncache.effects import Unknown


def add_to_list(base: Representation | None, write: Write) -> Representation | Unknown | None:
    """An effect function."""
    if base is None or base.media_type != "application/json":
        return UNKNOWN
    return Representation(base.body + write.body, base.content_type)


async def may_write(request: web.Request) -> bool:
    """An authorisation hook."""
    return "X-Key" in request.headers


def who(request: web.Request) -> str | None:
    """An identity function."""
    return request.headers.get("X-User")


settings = regioncache.Settings(
    origin="https://origin.example",
    regions=[
        regioncache.Region("ap-northeast-1", redis="redis://10.0.0.5"),
        regioncache.Region("home", redis="embedded://./data/home", latitude=35.7, longitude=139.7),
    ],
    secrets=["0123456789abcdef"],
    cache=regioncache.Cache(ttl=60),
    rules=[
        regioncache.Rule(
            "/items/{id}",
            methods=["PUT"],
            write="behind",
            effect=add_to_list,
            affects=["/items", regioncache.Affect("/items/{id}/summary", effect=None)],
            authorize=may_write,
            principal=who,
        ),
    ],
)


statuses: dict[str, float] = {"404": 5}
rules = [
    regioncache.Rule("/a", ttl=statuses, force_ttl={200: 60, "5xx": 1}, ignore_query=["utm_*"], key=["country"]),
    regioncache.Rule("/b", ttl={"404": 5}, sort_query=True),
]


@regioncache.cached(ttl=5)
async def page(request: web.Request) -> web.Response:
    """A handler keeps its type under a decorator."""
    cache = regioncache.region_cache(request)
    assert_type(cache, regioncache.RegionCache)
    assert_type(cache.settings.cache.flight_age, float)
    return web.Response(text="page")


@regioncache.write_behind(effect="merge-patch")
async def change(request: web.Request) -> web.StreamResponse:
    """Forward what is not taken behind."""
    return await regioncache.forward(request)


def build() -> web.Application:
    """Build the application."""
    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_patch("/page", change)
    assert_type(regioncache.setup(app, settings, middleware_pos=0), regioncache.RegionCache | None)
    assert_type(app[regioncache.REGION_CACHE], regioncache.RegionCache)
    assert_type(regioncache.load("regioncache.toml"), regioncache.Settings)
    return app


async def purge(cache: regioncache.RegionCache) -> None:
    """Purge in all regions, and in one."""
    assert_type(await cache.purge(regioncache.Purge(tag="a", soft=True)), regioncache.PurgeReport)
    report = await cache.purge(regioncache.Purge(everything=True), regions=["eu-west-1"])
    assert_type(report.unreached, tuple[str, ...])


def mistakes(app: web.Application) -> None:
    """What mypy refuses."""
    regioncache.Rule("/x", write="behnd")  # type: ignore[arg-type]
    regioncache.Rule("/x", read=True)  # type: ignore[arg-type]
    regioncache.Rule("/x", methodes=("PUT",))  # type: ignore[call-arg]
    regioncache.Rule("/x", authorize=lambda request: True)  # type: ignore[arg-type, return-value]
    regioncache.Rule("/x", ttl="5")  # type: ignore[arg-type]
    regioncache.Rule("/x", effect=len)  # type: ignore[arg-type]
    regioncache.Cache(60)  # type: ignore[call-arg]
    regioncache.Settings(regions="redis://x")  # type: ignore[arg-type]
    regioncache.setup(settings)  # type: ignore[arg-type]
    regioncache.Purge("/x")  # type: ignore[call-arg]
    settings.origin = None  # type: ignore[misc]
    app[regioncache.REGION_CACHE].setings  # type: ignore[attr-defined]  # noqa: B018
