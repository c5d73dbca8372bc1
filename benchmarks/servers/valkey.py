"""The Redis of all: the server that the package embeds, on TCP, as everybody can reach it there."""

from __future__ import annotations

from pathlib import Path

from aiohttp_regioncache.store.embedded import find_server_binary

from ..processes import HOST


def command(directory: Path, port: int) -> list[str]:
    """The command that runs it; nothing is persisted."""
    directory.mkdir(parents=True)
    options = {"bind": HOST, "port": port, "dir": directory, "save": "", "databases": 128, "tcp-backlog": 1024}
    return [str(find_server_binary()), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
