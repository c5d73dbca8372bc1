"""`serve`: an edge without code around it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from ..errors import SettingsError
from ..gateway.listeners import tls_context
from ..gateway.supervisor import Plan, Supervisor
from ..gateway.worker import work
from ..plugin import REGION_CACHE, add_forwarding, setup
from ..settings import Serve, Settings, parse
from ..store.embedded import EmbeddedServer
from .arguments import Commands, add_command

_OPTIONS: Final = ("host", "port", "socket", "workers", "tls_cert", "tls_key", "access_log")
_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "serve",
        run,
        summary="serve as an edge: answer from the regions, forward the rest to the origin",
        json=False,
        examples=[
            "aiohttp-regioncache serve --config regioncache.toml",
            "aiohttp-regioncache serve --host 0.0.0.0 --port 443 --workers 4 --tls-cert edge.pem --tls-key edge.key",
            "aiohttp-regioncache serve --socket /run/regioncache/http.sock --access-log json",
        ],
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    where.add_argument("--socket", metavar="PATH", help="listen on a unix socket instead")
    parser.add_argument("--port", type=int, help="the port (default: 8080); 0 is any that is free")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the address (default: 1)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain in PEM form, for HTTPS")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key in PEM form")
    parser.add_argument("--access-log", choices=("off", "common", "json"), help="one line per request (default: off)")
    parser.add_argument("--worker", metavar="FD,FD", help=argparse.SUPPRESS)


async def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it; the same command with `--worker` is one of the processes that do the work."""
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    if arguments.worker is not None:
        await _work(serving(arguments, sys.stdin.buffer.read()), *map(int, arguments.worker.split(",")))
        return 0
    settings, plan = _planned(arguments)
    async with contextlib.AsyncExitStack() as stack:
        # Theirs to share: a worker that owned one would take it along when it is replaced.
        for region in settings.regions:
            if region.redis.startswith("embedded:"):
                stack.push_async_callback((await EmbeddedServer.open(region.redis)).close)
        supervisor = Supervisor(
            plan,
            lambda parent, listening: _command(arguments, parent, listening),
            lambda: _planned(arguments)[1],
        )
        return await supervisor.run()


def serving(arguments: argparse.Namespace, text: bytes) -> Settings:
    """The settings with what the command line says of `serve`. Raises `SettingsError`."""
    settings = parse(text, arguments.config)
    given: dict[str, Any] = {
        name: getattr(arguments, name) for name in _OPTIONS if getattr(arguments, name) is not None
    }
    if given.keys() & {"host", "port"} and "socket" not in given:
        given["socket"] = None
    serve = Serve(**(msgspec.structs.asdict(settings.serve) | given))
    return msgspec.structs.replace(settings, serve=serve)


def make_app(settings: Settings) -> web.Application:
    """An application that leaves everything to the origin, behind the cache."""
    app = web.Application()
    setup(app, settings)
    add_forwarding(app)
    return app


def _check(settings: Settings) -> None:
    if settings.origin is None and not settings.sites.enabled:
        raise SettingsError("origin", "is missing; serve forwards there what is not stored. Or turn sites on")
    tls_context(settings.serve)


def _planned(arguments: argparse.Namespace) -> tuple[Settings, Plan]:
    """Read the settings as they are now. Raises `SettingsError` and `OSError`."""
    text = Path(arguments.config).read_bytes()
    settings = serving(arguments, text)
    _check(settings)
    return settings, Plan(settings.serve, text)


def _command(arguments: argparse.Namespace, parent: int, listening: Sequence[int]) -> list[str]:
    worker = ",".join(map(str, (parent, *listening)))
    return [sys.executable, "-m", "aiohttp_regioncache", *arguments.given, "--worker", worker]


async def _work(settings: Settings, parent: int, *listening: int) -> None:
    app = make_app(settings)
    shared = [socket.socket(fileno=each) for each in listening]
    for each in shared:
        each.setblocking(False)
    cache = app[REGION_CACHE]
    ways = cache.ways if settings.gateway.fast_hits else None
    await work(app, settings.serve, cache.health, ways, parent, shared)
