"""The fields by which an origin learns who asks an edge, made of what is known for sure. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

from .semantics.fields import Headers, split_list, split_outside_quotes, values

_TOLD: Final = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"})
# What servers and frameworks take for the URL or the scheme of a request, and no cache has in its key.
_MISLEADING: Final = frozenset(
    {
        "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl",
        "x-forwarded-path", "x-forwarded-protocol", "x-forwarded-uri", "x-host", "x-real-host", "x-http-host-override",
        "x-original-host", "x-original-uri", "x-original-url", "x-envoy-original-path", "x-rewrite-url", "x-real-ip",
        "x-scheme", "x-url-scheme", "front-end-https", "proxy",
    }
)  # fmt: skip
# Where servers and frameworks look for the user's address, which only a trusted peer may say.
_ADDRESSES: Final = frozenset(
    {
        "cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "client-ip", "fastly-client-ip", "forwarded-for",
        "true-client-ip", "x-appengine-user-ip", "x-client-ip", "x-cluster-client-ip", "x-forwarded",
        "x-original-forwarded-for", "x-originating-ip", "x-remote-addr", "x-remote-ip",
    }
)  # fmt: skip
_OVERRIDES: Final = frozenset({"x-http-method", "x-http-method-override", "x-method-override"})
_OF_NODES: Final = ("for=", "by=")
_NONE: Final[frozenset[str]] = frozenset()
_SCHEMES: Final = frozenset({"http", "https"})


def scheme_of(own: str, headers: Headers) -> str:
    """The scheme that the user's request came with: what a trusted peer says in `X-Forwarded-Proto`, or `own`."""
    said = [value.strip().lower() for line in values(headers, "x-forwarded-proto") for value in line.split(",")]
    return said[0] if said and said[0] in _SCHEMES else own


def with_forwarded(
    headers: Headers, *, peer: str, host: str, scheme: str, is_trusted: bool, is_safe: bool
) -> list[tuple[str, str]]:
    """Say who asks: `peer`, the address of the connection (empty for none), for `host` by `scheme`.

    What a trusted peer says of those before it is kept and added to; what anybody else says of it is left out, and so
    is what would make another request of it: of a trusted one too, as such proxies pass it on. A safe request loses the
    fields that override its method, which no key knows. Names with an underscore are left out: to many servers they are
    those with a hyphen (RFC 3875 section 4.1.18), and to us they are not.
    """
    unwanted = (
        _TOLD | _MISLEADING | (frozenset() if is_trusted else _ADDRESSES) | (_OVERRIDES if is_safe else frozenset())
    )
    kept = [line for line in headers if "_" not in line[0] and line[0].lower() not in unwanted]
    before = values(headers, "x-forwarded-for") if is_trusted else []
    chain = ", ".join([*before, *([peer] if peer else [])])
    quoted = host.replace("\\", "\\\\").replace('"', '\\"')
    element = ";".join([f"for={_node(peer)}", f'host="{quoted}"', f"proto={scheme}"])
    forwarded = ", ".join([*(_nodes(headers) if is_trusted else []), element])
    return [
        *kept,
        *([("X-Forwarded-For", chain)] if chain else []),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Proto", scheme),
        ("Forwarded", forwarded),
    ]


def _node(peer: str) -> str:
    """An address as `Forwarded` has it (RFC 7239 section 6)."""
    if not peer:
        return "unknown"
    try:
        is_v6 = ipaddress.ip_address(peer.partition("%")[0]).version == 6
    except ValueError:
        return "unknown"
    return f'"[{peer}]"' if is_v6 else peer


def _nodes(headers: Headers) -> list[str]:
    """The elements of `Forwarded` so far, as far as they name nodes: host and scheme could be the user's invention."""
    elements = [element for line in values(headers, "forwarded") for element in split_list(line)]
    pairs = [split_outside_quotes(element, ";") for element in elements]
    named = [[pair for pair in element if pair.lower().startswith(_OF_NODES)] for element in pairs]
    return [";".join(element) for element in named if element]
