"""Options of features: checked, and in one form. Pure."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from ..errors import SettingsError


def table(key: str, options: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a table with every default; True stands for the defaults alone. Raises `SettingsError`."""
    given = {} if options is True else options
    if not isinstance(given, Mapping):
        raise SettingsError(key, f"{options!r} is neither true nor a table of {', '.join(defaults)}")
    for name, value in given.items():
        if name not in defaults:
            raise SettingsError(f"{key}.{name}", f"is unknown; allowed: {', '.join(defaults)}")
        kind = type(defaults[name])
        kinds = (list, tuple) if kind is tuple else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise SettingsError(f"{key}.{name}", f"{value!r} is not like {defaults[name]!r}")
    return {**defaults, **given}


def need(key: str, module: str, extra: str) -> None:
    """Refuse a feature whose package is not installed."""
    if importlib.util.find_spec(module) is None:
        raise SettingsError(key, f"needs a package that is missing: pip install 'aiohttp-regioncache[{extra}]'")


def within(key: str, number: float, least: float, most: float) -> None:
    """Refuse a number that is too small or too large."""
    if not least <= number <= most:
        raise SettingsError(key, f"{number!r} is not from {least} to {most}")
