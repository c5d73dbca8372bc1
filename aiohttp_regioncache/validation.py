"""Types of settings: checked wherever they come from, explained by the name of the setting. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from yarl import URL

from .errors import SettingsError

_MAX_SECONDS: Final = 1e10  # some 300 years; in milliseconds they are still exact
_MAX_COUNT: Final = 2**53
_STATUS: Final = re.compile(r"[2-5](?:[0-9][0-9]|xx)|any")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")


def check_types(key: str, struct: msgspec.Struct) -> None:
    """Check every field of a frozen struct against its annotation, which msgspec does not do in code.

    Lists become the tuples that the annotations name. `key` is the name of the struct among the settings, empty for
    the settings themselves. Raises `SettingsError` naming the field.
    """
    for field in msgspec.structs.fields(type(struct)):
        try:
            value = msgspec.convert(getattr(struct, field.name), field.type)
        except msgspec.ValidationError as error:
            name = f"{key}.{field.name}" if key else field.name
            raise explained(error, field.type, name) from None
        msgspec.structs.force_setattr(struct, field.name, value)


def check_number(key: str, value: int | float) -> None:
    """Refuse a number below 0, or beyond what Redis and its scripts can count; a float is seconds."""
    most = _MAX_COUNT if isinstance(value, int) else _MAX_SECONDS
    if not 0 <= value <= most:
        raise SettingsError(key, f"{value!r} is not a number >= 0 and at most {most}")


def is_address(text: str) -> bool:
    """Whether a text is an address such as `https://origin.example`, without user, query and fragment."""
    try:
        url = URL(text)
    except ValueError:
        return False
    bare = not (url.user or url.password or url.query_string or url.fragment)
    return url.scheme in ("http", "https") and bool(url.host) and bare


def ttl_by_status(key: str, ttl: float | Mapping[Any, float] | None) -> float | Mapping[str, float] | None:
    """Write a lifetime in its one form: seconds, or seconds by "404", "4xx" or "any", where numbers became text.

    Raises `SettingsError` for what is no status of a response, no number of seconds, or there twice.
    """
    if not isinstance(ttl, Mapping):
        if ttl is not None:
            check_number(key, ttl)
        return ttl
    found: dict[str, float] = {}
    for status, seconds in ttl.items():
        name = str(status)
        if not _STATUS.fullmatch(name):
            raise SettingsError(f"{key}[{name}]", 'is no status; allowed: 200 to 599, "2xx" to "5xx", "any"')
        if name in found:
            raise SettingsError(f"{key}[{name}]", "is there twice, as a number and as text")
        check_number(f"{key}[{name}]", seconds)
        found[name] = seconds
    return found


def explained(error: msgspec.ValidationError, root: Any, name: str = "") -> SettingsError:
    """Say what is wrong with which setting; `root` is the type that was read, `name` the setting it belongs to."""
    if isinstance(error.__cause__, SettingsError):
        return error.__cause__
    problem, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    key = name + path if path.startswith("[") else ".".join(part for part in (name, path) if part)
    kind = type_at(root, path)
    if unknown := _UNKNOWN_FIELD.search(problem):
        owner = struct_in(kind)
        allowed = ", ".join(owner.__struct_fields__) if owner else "none"
        return SettingsError(f"{key}.{unknown[1]}".lstrip("."), f"is no setting; allowed: {allowed}")
    if "enum value" in problem and (choices := _choices(kind)):
        problem += f"; allowed: {', '.join(map(repr, choices))}"
    return SettingsError(key or "settings", problem)


def type_at(root: Any, path: str) -> Any:
    """The annotation that a path such as `cache.ttl` or `rules[0].affects[...]` leads to; None where there is none."""
    current = root
    for name in path.split(".") if path else ():
        if bare := name.partition("[")[0]:
            owner = struct_in(current)
            fields = msgspec.structs.fields(owner) if owner else ()
            current = next((field.type for field in fields if field.name == bare), None)
    return current


def _choices(kind: Any) -> tuple[Any, ...]:
    """What a literal annotation allows, also one that is part of a union."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(choice for arg in get_args(kind) for choice in _choices(arg))


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that an annotation is, or holds in a tuple or union; None without one."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for arg in get_args(kind) if (found := struct_in(arg))), None)
