"""When may an answer that was made for one user reach another? From RFC 9111 and README.md, not from the code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from aiohttp_regioncache import Rule

Directives = Mapping[str, str | None]

_DIRECTIVE: Final = re.compile(r'([a-z-]+)(?:=("[^"]*"|[^\s,"]+))?')
_DICTIONARY: Final = re.compile(r"[a-z-]+(?:=[a-z0-9]+)?(?:, [a-z-]+(?:=[a-z0-9]+)?)*")
_PERMITS: Final = frozenset({"public", "s-maxage", "must-revalidate"})
_BY_DEFAULT: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})


class Birth(NamedTuple):
    """An answer of the origin: for whom, to which request, and what was said with it; field names in lower case."""

    serial: int
    asker: str
    method: str
    asked: Mapping[str, str]
    status: int
    fields: tuple[tuple[str, str], ...]

    def first(self, name: str) -> str:
        """The field of this name, empty without one."""
        return next((value for field, value in self.fields if field == name), "")


def directives_of(birth: Birth) -> Directives:
    """The directives that govern the edge: a valid targeted field speaks alone (RFC 9213 2.2)."""
    targeted = birth.first("cdn-cache-control")
    if _DICTIONARY.fullmatch(targeted):
        return _parsed(targeted)
    return _parsed(", ".join(value for name, value in birth.fields if name == "cache-control"))


def _parsed(text: str) -> Directives:
    found: dict[str, str | None] = {}
    for name, value in _DIRECTIVE.findall(text.lower()):
        found[name] = value.strip('"') or None
    return found


def is_explicit(birth: Birth) -> bool:
    """Whether the origin itself says for how long an answer is good, or that it is everybody's (RFC 9111 4.2.1)."""
    directives = directives_of(birth)
    expires = birth.first("expires") and not _DICTIONARY.fullmatch(birth.first("cdn-cache-control"))
    return bool(expires or directives.keys() & {"max-age", "s-maxage", "public"})


def identity(asked: Mapping[str, str], rule: Rule | None) -> str | None:
    """Who a request is from under a rule: what its `principal` names, else Authorization and cookies."""
    source = rule.principal if rule is not None else None
    if source == "header:X-User":
        return asked.get("x-user")
    if source == "cookie:session":
        session = re.search(r"session=([^;]+)", asked.get("cookie", ""))
        return session[1] if session else None
    named = asked.get("authorization"), asked.get("cookie")
    return repr(named) if any(named) else None


def has_credentials(asked: Mapping[str, str], rule: Rule | None) -> bool:
    """Whether the answer to a request may be meant for its bearer alone; cookies count as credentials."""
    return "authorization" in asked or "cookie" in asked or identity(asked, rule) is not None


def forbidden(birth: Birth, asked: Mapping[str, str], rule: Rule | None) -> str:
    """Why an answer may not reach somebody else's request; empty where it may."""
    return _by_directives(birth) or _by_owner(birth, asked, rule) or _by_selection(birth, asked)


def _by_directives(birth: Birth) -> str:
    directives = directives_of(birth)
    if "no-store" in directives or "no-store" in birth.asked.get("cache-control", ""):
        return "no-store (RFC 9111 5.2.1.5, 5.2.2.5)"
    if "private" in directives and directives["private"] is None:
        return "private (RFC 9111 5.2.2.7)"
    if not is_explicit(birth) and (birth.method == "POST" or birth.status not in _BY_DEFAULT | {304}):
        return "no explicit freshness (RFC 9111 3, RFC 9110 9.3.3)"
    if birth.method not in ("GET", "HEAD", "POST"):
        return "the method (RFC 9110 9.2.3)"
    return ""


def _by_owner(birth: Birth, asked: Mapping[str, str], rule: Rule | None) -> str:
    if has_credentials(birth.asked, rule) and not directives_of(birth).keys() & _PERMITS:
        return "credentials (RFC 9111 3.5)"
    if birth.first("set-cookie") and not is_explicit(birth):
        return "Set-Cookie without explicit freshness (RFC 9111 7.3)"
    owner = identity(birth.asked, rule)
    if rule is not None and rule.per_user and owner is not None and owner != identity(asked, rule):
        return "per_user: each principal's own (README.md)"
    return ""


def _by_selection(birth: Birth, asked: Mapping[str, str]) -> str:
    names = [name.strip().lower() for name in birth.first("vary").split(",") if name.strip()]
    differing = [name for name in names if name == "*" or birth.asked.get(name) != asked.get(name)]
    return f"Vary: {', '.join(differing)} (RFC 9111 4.1)" if differing else ""


def withheld_fields(birth: Birth) -> frozenset[str]:
    """The response fields that a qualified `private` keeps from others (RFC 9111 5.2.2.7)."""
    return _qualified(birth, "private")


def validated_fields(birth: Birth) -> frozenset[str]:
    """The response fields that a qualified `no-cache` keeps from others without validation (RFC 9111 5.2.2.4)."""
    return _qualified(birth, "no-cache")


def _qualified(birth: Birth, name: str) -> frozenset[str]:
    return frozenset(field.strip() for field in (directives_of(birth).get(name) or "").split(",") if field.strip())


def needs_validation(birth: Birth) -> bool:
    """Whether the answer may be used again only when the origin has confirmed it (RFC 9111 5.2.2.4)."""
    directives = directives_of(birth)
    return "no-cache" in directives and directives["no-cache"] is None
