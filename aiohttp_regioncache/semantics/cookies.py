"""The cookies of a request (RFC 6265 4.2)."""

from .fields import OWS, Headers, values


def cookies(headers: Headers) -> list[tuple[str, str]]:
    """Return the cookies as (name, value) in the order received, duplicates kept, values as they came.

    A piece without an equals sign is a name alone: a cookie that some server reads is not overlooked.
    """
    pieces = (piece.strip(OWS) for line in values(headers, "cookie") for piece in line.split(";"))
    divided = (piece.partition("=") for piece in pieces if piece)
    return [(name.rstrip(OWS), value.lstrip(OWS)) for name, _, value in divided]
