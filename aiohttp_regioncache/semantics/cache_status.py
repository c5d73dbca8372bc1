"""The Cache-Status response field (RFC 9211)."""

from .structured import write_integer, write_string, write_token_or_string


def cache_status(
    name: str,
    *,
    hit: bool = False,
    fwd: str | None = None,
    fwd_status: int | None = None,
    ttl: float | None = None,
    stored: bool | None = None,
    collapsed: bool = False,
    key: str | None = None,
    detail: str | None = None,
) -> str:
    """Write one member of Cache-Status; what is None or False at its default is left out.

    `ttl` is in seconds, rounded down, negative when stale (RFC 9211 2.4). `name`, `fwd` and `detail` are
    written as tokens where they can be, else as strings (RFC 8941 4.1.6); `hit` excludes `fwd` (RFC 9211
    2.1).
    """
    parameters = (
        _flag("hit", hit or None),
        None if fwd is None else f"fwd={write_token_or_string(fwd)}",
        _number("fwd-status", fwd_status),
        _number("ttl", ttl),
        _flag("stored", stored),
        _flag("collapsed", collapsed or None),
        None if key is None else f"key={write_string(key)}",
        None if detail is None else f"detail={write_token_or_string(detail)}",
    )
    return "; ".join([write_token_or_string(name), *filter(None, parameters)])


def _flag(name: str, value: bool | None) -> str | None:
    # RFC 8941 4.1.1.2: a true parameter is its name alone.
    return None if value is None else name if value else f"{name}=?0"


def _number(name: str, value: float | None) -> str | None:
    return None if value is None else f"{name}={write_integer(value)}"
