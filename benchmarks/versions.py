"""What was measured with: versions, and the machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp_regioncache.errors import EmbeddedServerError
from aiohttp_regioncache.store.embedded import find_server_binary

from . import cores

_PACKAGES: Final = (
    "aiohttp-regioncache", "aiohttp", "redis", "hiredis", "msgspec", "uvloop", "aiocache", "cashews", "aiohttp-cache",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Name and version of everything that counts; what is not installed is left out."""
    found = {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "divided": "servers on one core, load, Redis and origin on another" if cores.ARE_PINNED else "one core for all",
        "system": platform.platform(),
        "Python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    with contextlib.suppress(EmbeddedServerError):
        found["Redis"] = _said([str(find_server_binary()), "--version"])
    for program, option in (("nginx", "-v"), ("varnishd", "-V"), ("wrk", "-v")):
        if path := shutil.which(program):
            found[program] = _said([path, option])
    return found


def _said(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
