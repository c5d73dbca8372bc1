"""Methods, and what an unsafe one invalidates (RFC 9110 9.2.1, RFC 9111 4.4)."""

from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from .fields import Headers, values

_READS = frozenset({"GET", "HEAD"})
_SAFE = _READS | {"OPTIONS", "TRACE"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_safe(method: str) -> bool:
    """Tell whether a method is defined to be safe (RFC 9110 9.2.1); unknown methods are not."""
    return method in _SAFE


def is_read(method: str) -> bool:
    """Tell whether a method reads a representation: GET or HEAD."""
    return method in _READS


def invalidates(method: str, status: int) -> bool:
    """Tell whether a response invalidates what is stored: no error, no safe method (RFC 9111 4.4)."""
    return not is_safe(method) and 200 <= status < 400


def invalidated_targets(target_uri: str, response_headers: Headers) -> tuple[str, ...]:
    """Return the absolute URIs to invalidate: the target and, of its origin, Location and Content-Location.

    References are resolved against the target, fragments dropped, other origins left out (RFC 9111 4.4).
    """
    references = [*values(response_headers, "location"), *values(response_headers, "content-location")]
    named = (resolved(target_uri, reference) for reference in references)
    return tuple(dict.fromkeys([target_uri, *(uri for uri in named if uri is not None)]))


def resolved(target_uri: str, reference: str) -> str | None:
    """Resolve a reference against a target, without fragment; None for another origin, and for what is no reference."""
    try:
        target, other = urlsplit(target_uri), urlsplit(urljoin(target_uri, reference))
        if _origin(target) != _origin(other):
            return None
    except ValueError:  # no URI reference at all
        return None
    return urlunsplit((target.scheme, target.netloc, other.path or "/", other.query, ""))


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    port = _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    return parts.scheme, parts.hostname, port
