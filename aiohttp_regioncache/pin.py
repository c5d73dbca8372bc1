"""The pin: a signed mark that keeps who has written on that region. Pure.

It chooses a region and nothing else, so it is bound to no principal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .principal import COOKIE_PREFIX, Signer, is_own_cookie
from .semantics.fields import Headers, values

PIN_COOKIE: Final = f"{COOKIE_PREFIX}pin"
"""Cookie that holds a pin."""
PIN_HEADER: Final = "Regioncache-Pin"
"""Response header with the pin for clients without cookies, who send it back as a request header."""
_OWN_HEADER: Final = PIN_HEADER.lower()
_MAX_LENGTH: Final = 256


def make_pin(signer: Signer, region: str, expires: int) -> str:
    """Write a pin to `region` until `expires`, seconds since the epoch."""
    return f"{region}:{expires}:{signer.sign('pin', region, str(expires))}"


def pinned_region(signer: Signer, headers: Headers, now: float) -> str | None:
    """Name the region that a request's newest valid pin leads to, in the header or the cookie; None without one."""
    pins = (_read(signer, value) for value in _values(headers))
    valid = [pin for pin in pins if pin is not None and pin[0] > now]
    return max(valid)[1] if valid else None


def has_pin(headers: Headers) -> bool:
    """Whether the fields of a request hold what is meant for us alone."""
    return any(_is_ours(name, value) for name, value in headers)


def without_pins(headers: Headers) -> Headers:
    """The fields of a request without what is meant for us alone: the pin, and cookies of our own."""
    if not has_pin(headers):
        return headers
    kept = [(name, value) for name, value in headers if name.lower() != _OWN_HEADER]
    foreign = ((name, _foreign(value) if name.lower() == "cookie" else value) for name, value in kept)
    return [(name, value) for name, value in foreign if value or name.lower() != "cookie"]


def _read(signer: Signer, value: str) -> tuple[int, str] | None:
    """When a pin expires, and its region; None for what none of our edges wrote."""
    parts = value.split(":")
    if len(value) > _MAX_LENGTH or len(parts) != 3 or not signer.verify(parts[2], "pin", *parts[:2]):
        return None
    return int(parts[1]), parts[0]


def _values(headers: Headers) -> Iterable[str]:
    yield from (value.strip() for value in values(headers, PIN_HEADER))
    start = f"{PIN_COOKIE}="
    for line in values(headers, "cookie"):
        yield from (piece.removeprefix(start) for piece in _pieces(line) if piece.startswith(start))


def _is_ours(name: str, value: str) -> bool:
    lowered = name.lower()
    return lowered == _OWN_HEADER or (lowered == "cookie" and COOKIE_PREFIX in value)


def _foreign(line: str) -> str:
    """A `Cookie` field without the cookies of our own; as it came when there are none."""
    pieces = _pieces(line)
    foreign = [piece for piece in pieces if not is_own_cookie(piece)]
    return line if len(foreign) == len(pieces) else "; ".join(filter(None, foreign))


def _pieces(line: str) -> list[str]:
    return [piece.strip() for piece in line.split(";")]
