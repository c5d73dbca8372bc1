"""The requests of measurements, written out beforehand."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Sequence
from typing import Any, Final

from .bodies import KIB, body_at, paths
from .load import CONNECTIONS, Asked

HOST: Final = "bench.example"
PAGES: Final = 1_000
"""How many pages diverse clients ask for."""
_DRAWN: Final = 500
_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/1{n}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_{n}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{n} Safari/605",
    "Mozilla/5.0 (X11; Linux x86_64; rv:1{n}.0) Gecko/20100101 Firefox/1{n}.0",
    "curl/8.{n}.0",
)
_LANGUAGES: Final = (
    "en-GB,en;q=0.9",
    "pt-BR,pt;q=0.8,en;q=0.5",
    "ja",
    "de-DE,de;q=0.9,en;q=0.7",
    "fr",
    "hi-IN,hi;q=0.9",
)
_ACCEPTED: Final = ("*/*", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json")


def get(path: str, *, host: str = HOST, fields: str = "Accept: */*\r\n", **answer: Any) -> Asked:
    """A GET; `answer` says what is special about its answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()
    return Asked(request, body=body_at(path), **answer)


def gets(size: int, **answer: Any) -> list[list[Asked]]:
    """A plan per connection, of all the bodies of a size, each in an order of its own."""
    plan = [get(path, **answer) for path in paths(size)]
    return [random.Random(number).sample(plan, len(plan)) for number in range(CONNECTIONS)]


def put(path: str, body: bytes, *, fields: str = "", **answer: Any) -> Asked:
    """A PUT."""
    described = f"Host: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return Asked(f"PUT {path} HTTP/1.1\r\n{described}".encode() + body, **answer)


def puts(size: int, *, each: int = 8, **answer: Any) -> list[list[Asked]]:
    """A plan per connection, of writes to resources of its own."""
    body = body_at(f"/items/{size}")
    return [
        [put(f"/items/{number}-{item}", body, status=202, **answer) for item in range(each)]
        for number in range(CONNECTIONS)
    ]


def fresh(size: int, *, each: int = 16, **answer: Any) -> list[list[Asked]]:
    """A plan per connection, of reads that nobody else makes at the same time and nothing may be stored of."""
    return [[get(f"/fresh/{size}/{number}-{item}", **answer) for item in range(each)] for number in range(CONNECTIONS)]


def first(size: int, *, each: int = 512, **answer: Any) -> list[list[Asked]]:
    """A plan per connection, of more reads than it gets to in one measurement, none of which is made twice."""
    return [[get(f"/{size}/first/{number}-{item}", **answer) for item in range(each)] for number in range(CONNECTIONS)]


def page(number: int, size: int = KIB) -> str:
    """The path of one of many pages."""
    return f"/{size}/pages/{number}"


def pages(count: int = PAGES, **answer: Any) -> list[Asked]:
    """Every page once."""
    return [get(page(number), **answer) for number in range(count)]


def diverse(count: int = PAGES, *, connections: int = CONNECTIONS, seed: int = 1, **answer: Any) -> list[list[Asked]]:
    """A plan per connection: a client with header fields of its own that asks for pages by Zipf's law."""
    chance = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, count + 1)))
    return [
        [
            get(page(bisect.bisect(weights, chance.random() * weights[-1])), fields=fields, **answer)
            for _ in range(_DRAWN)
        ]
        for fields in (_fields(number) for number in range(connections))
    ]


def _fields(number: int) -> str:
    agent = _AGENTS[number % len(_AGENTS)].format(n=number % 30)
    fields = [
        ("User-Agent", agent),
        ("Accept", _ACCEPTED[number % len(_ACCEPTED)]),
        ("Accept-Language", _LANGUAGES[number % len(_LANGUAGES)]),
        ("Accept-Encoding", "gzip, deflate, br" if number % 2 else "gzip"),
        ("Referer", f"https://{HOST}/{number}"),
        ("Sec-Fetch-Mode", "navigate"),
    ]
    kept = fields[: 3 + number % 4]
    return "".join(f"{name}: {value}\r\n" for name, value in kept)


def spread(plan: Sequence[Asked], connections: int = CONNECTIONS) -> list[list[Asked]]:
    """Deal a plan out to connections."""
    return [list(plan[number::connections]) or list(plan) for number in range(connections)]
