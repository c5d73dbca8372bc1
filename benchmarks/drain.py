"""The part `drain`: how fast writes that wait go to an origin that answers at once."""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp_regioncache.store.keyspace import Partition

from . import requests
from .bodies import body_at
from .load import CONNECTIONS, Load
from .processes import Process, until
from .report import Cell, Found, Say, Table
from .servers.regioncache import region_at
from .stage import Stage

_SIZE: Final = 256
_AFFECTS: Final[tuple[list[str] | None, ...]] = (None, [])
_LOOK_SECONDS: Final = 0.005
_PATIENCE: Final = 120.0
_NOTE: Final = """Writes of 256 octets to as many resources, queued while nobody replays them; then one worker of the
gateway does, and what is pending is counted until nothing is. `affects`: what else each write touches, by default the
parent path that all of them share. CPU in microseconds of the worker and of Redis for each write; `accepted per second`
is what queueing them came to."""


def drain(stage: Stage, say: Say, *, writes: int = 10_000) -> Found:
    """Queue writes, and time the sync loop, singly and in bulk."""
    rows: list[list[Cell]] = []
    for bulk in (False, True):
        for affects in _AFFECTS:
            say(f"drain: {writes} writes, {'in bulk of 100' if bulk else 'singly'}")
            how = "in bulk of 100" if bulk else "singly"
            what = "the parent path" if affects is None else "nothing"
            rows.append([how, what, *_drained(stage, writes, bulk=bulk, affects=affects)])
    columns = ("sent", "affects", "writes", "per second", "CPU per write", "CPU of Redis", "accepted per second")
    return Found([Table("Drain of the queue", columns, rows, _NOTE)])


def _drained(stage: Stage, writes: int, *, bulk: bool, affects: list[str] | None) -> list[int | float]:
    rule: dict[str, Any] = {"path": "/items/{id}", "write": "behind"}
    if bulk:
        rule["bulk"] = {"endpoint": "/bulk", "max_writes": 100}
    if affects is not None:
        rule["affects"] = affects
    database = stage.database()
    redis = stage.redis_url(database)
    accepting = stage.serve(behind=True, redis=redis, more={"rules": [rule]})
    accepted = _accept(accepting.port, writes)
    accepting.stop()
    queue = Partition(region_at(redis), 0).queue
    with stage.redis(database) as client:
        if (waiting := client.zcard(queue)) != writes:
            raise RuntimeError(f"{waiting} of {writes} writes are queued")
        server = stage.serve(behind=True, redis=redis, more={"rules": [rule], "sync": {"enabled": True}})
        before, started, first = _used(server, stage), time.perf_counter(), client.zcard(queue)
        until(lambda: not client.zcard(queue), "the queue is not empty", within=_PATIENCE, every=_LOOK_SECONDS)
        seconds = time.perf_counter() - started
        used, beside = (now - then for now, then in zip(_used(server, stage), before, strict=True))
    server.stop()
    assert isinstance(first, int)  # noqa: S101 - redis-py does not say so
    return [writes, round(first / seconds), used / first * 1e6, beside / first * 1e6, round(accepted)]


def _used(server: Process, stage: Stage) -> tuple[float, float]:
    """Seconds of their cores that the server and Redis have used."""
    return server.cpu_seconds(), stage.valkey.cpu_seconds()


def _accept(port: int, writes: int) -> float:
    """Queue writes to as many resources; how many a second were taken."""
    body = body_at(f"/{_SIZE}")
    marks = (b"/_regioncache/writes/",)
    plan = [requests.put(f"/items/{number}", body, status=202, marks=marks) for number in range(writes)]
    load = Load(port, requests.spread(plan), CONNECTIONS)
    try:
        measured = load.closed(once=True)
    finally:
        load.close()
    if measured.wrong:
        raise RuntimeError(f"writes were not taken: {dict(measured.wrong)}")
    return measured.rate
