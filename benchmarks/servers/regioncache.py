"""The package's own server, `aiohttp-regioncache serve`, and its settings as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..processes import module

_UNLIMITED: Final = 1 << 33
_CAPS: Final = (
    "max_writes", "max_bytes", "max_writes_per_resource", "max_bytes_per_resource", "max_writes_per_principal",
)  # fmt: skip
Options = Mapping[str, Any]


def region_at(redis: str) -> str:
    """The name of the region in a database: regions of one name would hear each other across databases."""
    return f"region-{redis.rpartition('/')[2]}"


def settings(
    *,
    redis: str,
    origin: int | None = None,
    memory: bool = True,
    behind: bool = False,
    more: Options | None = None,
) -> dict[str, Any]:
    """Settings for measurements: one region, memory for hours or none, writes behind that are replayed or wait."""
    name = region_at(redis)
    data: dict[str, Any] = {
        "regions": [{"name": name, "redis": redis, "latitude": 0.0, "longitude": 0.0}],
        "home_region": name,
        "cache": {"memory_seconds": 86_400 if memory else 0},
        "secrets": ["a secret of the benchmarks alone"],
    }
    if origin is not None:
        data["origin"] = f"http://127.0.0.1:{origin}"
    if behind:
        data["rules"] = [{"path": "/items/{id}", "write": "behind"}]
        data["sync"] = {"enabled": False}
        data["queue"] = dict.fromkeys(_CAPS, _UNLIMITED)
    return {key: value for key, value in (data | dict(more or {})).items() if value is not None}


def write(file: Path, data: Options) -> Path:
    """Write settings as TOML."""
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = {key: value for key, value in data.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {_toml(each)}" for name, each in value.items())]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def _toml(value: Any) -> str:
    """A value of TOML, tables in line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def command(file: Path, port: int, workers: int = 1) -> list[str]:
    """The command that serves with the settings of a file."""
    return module("aiohttp_regioncache", "serve", "--config", file, "--port", port, "--workers", workers)
