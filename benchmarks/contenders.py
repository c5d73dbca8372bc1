"""Who is compared: servers, and what is asked of them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from . import requests
from .bodies import KIB, SIZES
from .load import Asked
from .processes import Process, module
from .servers import nginx, varnish
from .stage import Stage

Start = Callable[[Stage], Process]
_MEMORY: Final = (b"; hit", b"detail=memory")
_HIT: Final = (b"; hit",)
_NOT_MEMORY: Final = (b"detail=memory",)
_MISS: Final = (b"fwd=",)
_STORED: Final = (b"fwd=miss; stored",)
_QUEUED: Final = (b"/_regioncache/writes/",)
_CACHED: Final = (b"X-Cache: HIT",)


class Contender(msgspec.Struct, frozen=True):
    """One row of the table: `plans` of requests to a server; `baseline` is the row that it is compared with.

    `before` is asked once, until it is answered rightly. `empties` says that what is stored has to go before and after;
    `counts` that the server counts what it makes, because its answers do not tell where they come from.
    """

    name: str
    server: str
    size: int
    plans: Sequence[Sequence[Asked]]
    baseline: str
    before: Sequence[Asked] = ()
    empties: bool = False
    counts: bool = False

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.name == self.baseline


def servers() -> dict[str, Start]:
    """How each server starts that can be run here."""
    found: dict[str, Start] = {
        "bare": lambda stage: stage.start(lambda port: module("benchmarks.servers.bare", port)),
        "plug-in, memory": lambda stage: _plug_in(stage, memory=True),
        "plug-in, Redis": lambda stage: _plug_in(stage, memory=False),
        "plug-in, write behind": lambda stage: _plug_in(stage, behind=True),
        "gateway, memory": lambda stage: stage.serve(memory=True),
        "gateway, Redis": lambda stage: stage.serve(memory=False),
        "gateway, nothing stored": lambda stage: stage.serve(memory=False, emptied=True),
        "gateway, write behind": lambda stage: stage.serve(behind=True),
    }
    return found | _peers() | _daemons()


def _plug_in(stage: Stage, *, memory: bool = True, behind: bool = False) -> Process:
    settings = stage.settings(memory=memory, behind=behind)
    return stage.start(lambda port: module("benchmarks.servers.plugin", port, settings))


def _peers() -> dict[str, Start]:
    def peer(name: str, *told: str) -> Start:
        return lambda stage: stage.start(
            lambda port: module(
                f"benchmarks.servers.{name}",
                port,
                *(each.format(port=stage.valkey.port, database=stage.database()) for each in told),
            )
        )

    found: dict[str, Start] = {}
    redis = "redis://127.0.0.1:{port}/{database}"
    for name, package, memory, remote in (
        ("aiocache", "aiocache", ("memory", "{port}", "{database}"), ("redis", "{port}", "{database}")),
        ("cashews", "cashews", ("mem://",), (redis,)),
        ("aiohttp-cache", "aiohttp_cache", ("memory", "{port}", "{database}"), ("redis", "{port}", "{database}")),
    ):
        if importlib.util.find_spec(package) is not None:
            found[f"{name}, memory"] = peer(package, *memory)
            found[f"{name}, Redis"] = peer(package, *remote)
    if "cashews, Redis" in found:
        found["cashews, client side"] = peer("cashews", f"{redis}?client_side=True")
    return found


def _daemons() -> dict[str, Start]:
    found: dict[str, Start] = {}
    if shutil.which("nginx"):
        found["nginx, set well"] = lambda stage: _nginx(stage, well=True)
        found["nginx, as it comes"] = lambda stage: _nginx(stage, well=False)
    if shutil.which("varnishd"):
        found["varnish"] = lambda stage: stage.start(
            lambda port: varnish.command(stage.directory / f"varnish-{port}", port, stage.origin.port)
        )
    return found


def _nginx(stage: Stage, *, well: bool) -> Process:
    return stage.start(
        lambda port: nginx.command(stage.directory / f"nginx-{port}", port, stage.origin.port, well=well)
    )


def contenders(available: Sequence[str]) -> list[Contender]:
    """Every row that the available servers allow, those of one baseline together."""
    rows = [row for size in SIZES for row in (*_reads(size), *_writes(size))]
    return [row for row in rows if row.server in available]


def _reads(size: int) -> list[Contender]:
    label = f"{size // KIB} KiB"
    baseline = f"bare, {label}"

    def row(
        name: str,
        server: str,
        plans: Sequence[Sequence[Asked]] | None = None,
        before: Sequence[Asked] = (),
        *,
        empties: bool = False,
        **answer: Any,
    ) -> Contender:
        asked = plans or requests.gets(size, **answer)
        before = before or asked[0]
        counts = server.startswith(("aio", "cashews"))
        return Contender(f"{name}, {label}", server, size, asked, baseline, before, empties, counts)

    rows = [
        row("bare", "bare"),
        row("plug-in, memory", "plug-in, memory", marks=_MEMORY),
        row("plug-in, Redis", "plug-in, Redis", marks=_HIT, absent=_NOT_MEMORY),
        row("gateway, memory", "gateway, memory", marks=_MEMORY),
        row("gateway, Redis", "gateway, Redis", marks=_HIT, absent=_NOT_MEMORY),
        row("gateway, miss", "gateway, memory", requests.fresh(size, marks=_MISS)),
    ]
    if size == KIB:
        once = requests.first(size, marks=_STORED)
        rows.append(row("gateway, first miss", "gateway, nothing stored", once, empties=True))
    for server, marks in (("gateway, memory", _MEMORY), ("gateway, Redis", _HIT), ("nginx, set well", _CACHED)):
        if size == KIB:
            plans, pages = requests.diverse(marks=marks), requests.pages(marks=marks)
            rows.append(row(f"{server}, diverse", server, plans, pages))
    names = ("aiocache, memory", "aiocache, Redis", "cashews, memory", "cashews, Redis", "cashews, client side",
             "aiohttp-cache, memory", "aiohttp-cache, Redis")  # fmt: skip
    rows += [row(name, name) for name in names]
    rows += [row(name, name, marks=_CACHED) for name in ("nginx, set well", "nginx, as it comes", "varnish")]
    rows.append(row("nginx, proxy_pass", "nginx, as it comes", requests.fresh(size)))
    return rows


def _writes(size: int) -> list[Contender]:
    label = f"{size // KIB} KiB"
    baseline = f"bare, body read, {label}"

    def row(name: str, server: str, **answer: Any) -> Contender:
        return Contender(f"{name}, {label}", server, size, requests.puts(size, **answer), baseline, empties=True)

    return [
        row("bare, body read", "bare"),
        row("plug-in, write behind", "plug-in, write behind", marks=_QUEUED),
        row("gateway, write behind", "gateway, write behind", marks=_QUEUED),
    ]
