"""Cache directives: Cache-Control, Pragma and targeted fields (RFC 9111 5.2 and 5.4, RFC 9213)."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .fields import OWS, Headers, Indexed, split_list, unquote, values
from .structured import Item, Kind, Member, parse_dictionary

OWN_FIELDS = frozenset({"regioncache-cache-control", "regioncache-vary"})
"""Fields of responses that are for this cache alone."""
TARGETED = ("Regioncache-Cache-Control", "CDN-Cache-Control")
"""The targeted fields that count here, the one that is meant for us alone before that of all CDNs (RFC 9213 2.1)."""

LIMIT = 2**31
"""Seconds beyond which a delta-seconds value is clamped (RFC 9111 1.2.2)."""

_SHORT = 256
_DELTA_SECONDS = ("max-age", "s-maxage", "stale-if-error", "stale-while-revalidate")


@dataclass(frozen=True, slots=True, eq=False)
class Directives(Mapping[str, str | None]):
    """Cache directives by lower-case name; the value is that of the first occurrence, None without argument.

    `occurrences` holds every argument of a name, unquoted. `targeted` tells that they come from a targeted
    field, which hides Cache-Control and Expires (RFC 9213 2.2).
    """

    occurrences: Mapping[str, tuple[str | None, ...]]
    targeted: bool = False
    _seconds: dict[str, int | None] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> str | None:
        return self.occurrences[name.lower()][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.occurrences)

    def __len__(self) -> int:
        return len(self.occurrences)

    def has(self, name: str) -> bool:
        """Tell whether the directive is present, with or without argument."""
        return name.lower() in self.occurrences

    def all_seconds(self, name: str) -> tuple[int, ...]:
        """Return the delta-seconds of every occurrence; invalid and missing arguments are 0."""
        arguments = self.occurrences.get(name.lower())
        return tuple([delta_seconds(value) or 0 for value in arguments]) if arguments else ()

    def seconds(self, name: str) -> int | None:
        """Return the smallest delta-seconds of the directive, None when it is absent.

        Invalid freshness is stale (RFC 9111 4.2.1): negative, decimal, missing and other arguments are 0.
        """
        known = self._seconds
        if name not in known:
            known[name] = min(self.all_seconds(name), default=None)
        return known[name]

    def fields(self, name: str) -> tuple[str, ...]:
        """Return the lower-case field names that a qualified `no-cache` or `private` lists, in order.

        Empty when the directive is absent or stands unqualified anywhere, and so covers the whole response
        (RFC 9111 5.2.2.4, 5.2.2.7).
        """
        arguments = self.occurrences.get(name.lower())
        if arguments is None or None in arguments:
            return ()
        listed = (field.lower() for argument in arguments for field in split_list(argument or ""))
        return tuple(dict.fromkeys(listed))


NO_DIRECTIVES = Directives({})
"""What a message without any directive says."""


def delta_seconds(value: str | None) -> int | None:
    """Read delta-seconds (RFC 9111 1.2.2), clamped at 2**31; None when it is not a row of digits."""
    if value is None or not (value.isascii() and value.isdigit()):
        return None
    digits = value.lstrip("0") or "0"
    return LIMIT if len(digits) > 10 else min(int(digits), LIMIT)


def parse_directives(values: Iterable[str]) -> Directives:
    """Read the directives of Cache-Control field lines; repeated ones are all kept (RFC 9111 5.2)."""
    lines = tuple(values)
    if not lines:
        return NO_DIRECTIVES
    is_short = sum(map(len, lines)) <= _SHORT
    return (_parse if is_short else _parse.__wrapped__)(lines)


@functools.lru_cache(maxsize=1024)  # origins send the same few all the time
def _parse(lines: tuple[str, ...]) -> Directives:
    occurrences: dict[str, list[str | None]] = {}
    for line in lines:
        for element in split_list(line):
            name, equals, argument = element.partition("=")
            arguments = occurrences.setdefault(name.rstrip(OWS).lower(), [])
            arguments.append(unquote(argument) if equals else None)
    if not occurrences:
        return NO_DIRECTIVES
    return Directives({name: tuple(arguments) for name, arguments in occurrences.items()})


def response_directives(headers: Headers, *, targeted: tuple[str, ...] = TARGETED) -> Directives:
    """Return the directives that govern a stored response.

    The first of the `targeted` fields that is present, not empty and a valid dictionary replaces
    Cache-Control and Expires (RFC 9213 2.2); otherwise those of Cache-Control hold.
    """
    if type(headers) is not Indexed or targeted is not TARGETED:
        return _response_directives(headers, targeted)
    if not isinstance(headers.directives, Directives):
        headers.directives = _response_directives(headers, targeted)
    return headers.directives


def _response_directives(headers: Headers, targeted: tuple[str, ...]) -> Directives:
    for name in targeted:
        lines = values(headers, name)
        if lines and (found := _targeted_directives(lines)) is not None:
            return found
    return parse_directives(values(headers, "cache-control"))


def request_directives(headers: Headers) -> Directives:
    """Return the directives of a request; `Pragma: no-cache` counts without Cache-Control (RFC 9111 5.4)."""
    if lines := values(headers, "cache-control"):
        return parse_directives(lines)
    pragma = parse_directives(values(headers, "pragma"))
    return Directives({"no-cache": (None,)}) if pragma.has("no-cache") else NO_DIRECTIVES


def _targeted_directives(lines: list[str]) -> Directives | None:
    members = parse_dictionary(", ".join(lines))
    # RFC 9213 2.1: values of another type than the directive's are not consumed, nor coerced.
    if not members or any(not _is_integer(members[name]) for name in _DELTA_SECONDS if name in members):
        return None
    given = {name: (_argument(member),) for name, member in members.items() if not _is_false(member)}
    return Directives(given, targeted=True)


def _is_integer(member: Member) -> bool:
    return isinstance(member, Item) and member.kind is Kind.INTEGER


def _is_false(member: Member) -> bool:
    return member == Item(Kind.BOOLEAN, "?0")


def _argument(member: Member) -> str | None:
    if isinstance(member, tuple):
        return ", ".join(item.text for item in member)
    return None if member.kind is Kind.BOOLEAN else member.text
