"""Header lists: field lines, list values, quoted strings, hop-by-hop fields (RFC 9110 5 and 7.6.1)."""

import re
from collections.abc import Collection, Sequence
from typing import Self

Headers = Sequence[tuple[str, str]]
"""Field lines as (name, value) in the order received; names in any case, duplicates kept."""

OWS = " \t"

HOP_BY_HOP: frozenset[str] = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Lower-case names of the fields that never travel on or into a store (RFC 9110 7.6.1, RFC 9111 3.1)."""

# Possessive quantifiers: hostile input costs one pass.
_PIECES = {
    ",": re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL),
    ";": re.compile(r'(?:[^";]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL),
}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Indexed(tuple[tuple[str, str], ...]):
    """Field lines that are asked for many names: they are looked through once; `directives` are read once, too."""

    by_name: dict[str, list[str]]
    directives: object

    def __new__(cls, headers: Headers) -> Self:
        """Note the values under their names."""
        made = super().__new__(cls, headers)
        by_name: dict[str, list[str]] = {}
        for name, value in made:
            by_name.setdefault(name.lower(), []).append(value)
        made.by_name = by_name
        made.directives = None
        return made


def values(headers: Headers, name: str) -> list[str]:
    """Return the values of every field line called `name`, in order, unsplit."""
    wanted = name.lower()
    if type(headers) is Indexed:
        return [*headers.by_name.get(wanted, ())]
    return [value for line, value in headers if line.lower() == wanted]


def first(headers: Headers, name: str) -> str | None:
    """Return the value of the first field line called `name`, None when there is none."""
    wanted = name.lower()
    if type(headers) is Indexed:
        found = headers.by_name.get(wanted)
        return None if found is None else found[0]
    return next((value for line, value in headers if line.lower() == wanted), None)


def names_any(headers: Headers, names: Collection[str]) -> bool:
    """Tell whether there is a field line called by one of `names`, which are in lower case."""
    if type(headers) is Indexed:
        return any(name in headers.by_name for name in names)
    return any(name.lower() in names for name, _ in headers)


def combined(headers: Headers, name: str) -> str | None:
    """Join the field lines called `name` with ", " (RFC 9110 5.3); None when there is none."""
    lines = values(headers, name)
    return ", ".join(lines) if lines else None


def remove(headers: Headers, names: Collection[str]) -> list[tuple[str, str]]:
    """Return the field lines whose name is not among `names` (any case)."""
    if not names:
        return list(headers)
    unwanted = {name.lower() for name in names}
    return [line for line in headers if line[0].lower() not in unwanted]


def end_to_end(headers: Headers) -> list[tuple[str, str]]:
    """Drop the hop-by-hop fields and those that Connection names (RFC 9110 7.6.1, RFC 9111 3.1)."""
    options = _connection_options(headers)
    unwanted = HOP_BY_HOP | options if options else HOP_BY_HOP
    return [line for line in headers if line[0].lower() not in unwanted]


def hides_fields(headers: Headers) -> bool:
    """Tell whether Connection names fields of the message that are not hop-by-hop of themselves (RFC 9110 7.6.1)."""
    hidden = _connection_options(headers) - HOP_BY_HOP
    return bool(hidden) and any(name.lower() in hidden for name, _ in headers)


def _connection_options(headers: Headers) -> set[str]:
    return {option.strip(OWS).lower() for line in values(headers, "connection") for option in line.split(",")}


def split_list(value: str) -> list[str]:
    """Split a comma-separated value outside quoted strings, without empty elements (RFC 9110 5.6.1)."""
    return split_outside_quotes(value, ",")


def split_outside_quotes(value: str, separator: str) -> list[str]:
    """Split at each `separator` ("," or ";") outside quoted strings; trimmed, empty pieces dropped.

    A quote that is never closed quotes nothing, so it cannot hide what follows it.
    """
    pieces = _quoted_pieces(value, separator) if '"' in value else value.split(separator)
    return [piece for raw in pieces if (piece := raw.strip(OWS))]


def _quoted_pieces(value: str, separator: str) -> list[str]:
    pieces: list[str] = []
    pattern, start = _PIECES[separator], 0
    while match := pattern.match(value, start):
        end = match.end()
        if end == len(value):
            return [*pieces, value[start:]]
        if value[end] == '"':
            head, *rest = value[end:].split(separator)
            return [*pieces, value[start:end] + head, *rest]
        pieces.append(value[start:end])
        start = end + 1
    return pieces


def unquote(value: str) -> str:
    """Return the content of a quoted string (RFC 9110 5.6.4); anything else comes back as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(r"\1", value[1:-1])
