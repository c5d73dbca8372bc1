"""Which request fields select a response, and their values in the key (RFC 9110 12.5.5, RFC 9111 4.1)."""

from collections.abc import Sequence

from .fields import OWS, Headers, split_list, values

# RFC 9110 12.5.2 to 12.5.4: ranges whose case means nothing.
_CASELESS = frozenset({"accept-charset", "accept-encoding", "accept-language"})


def vary_names(headers: Headers) -> tuple[str, ...] | None:
    """Return the request fields that Vary names, lower-case, sorted, unique; None when `*` is among them."""
    listed = (name.strip(OWS).lower() for line in values(headers, "vary") for name in line.split(","))
    names = {name for name in listed if name}
    return None if "*" in names else tuple(sorted(names))


def selecting(headers: Headers, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the selecting fields of a request, in the order of `names`, normalised for the key.

    Lines are combined and white space around list commas collapses (RFC 9111 4.1). A field that is missing
    is left out, so that it differs from an empty one.
    """
    lines: dict[str, list[str]] = {name.lower(): [] for name in names}
    for name, value in headers:
        if (found := lines.get(name.lower())) is not None:
            found.append(value)
    return [(name, _normalised(name, found)) for name, found in lines.items() if found]


def _normalised(name: str, lines: list[str]) -> str:
    value = ", ".join(element for line in lines for element in split_list(line))
    return value.lower() if name in _CASELESS else value
