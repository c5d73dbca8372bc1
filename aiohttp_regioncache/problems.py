"""Error answers as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web


class Unanswered(web.Response):
    """Our own answer in place of one that the origin did not give: it may be at it still."""


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
    kind: type[web.Response] = web.Response,
    **members: object,
) -> web.Response:
    """Make an `application/problem+json` response (RFC 9457 section 3). `members` are extension members."""
    document: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if instance is not None:
        document["instance"] = instance
    return kind(
        status=status,
        body=msgspec.json.encode(document | members),
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def unavailable(detail: str, *, retry_after: int = 1) -> web.Response:
    """Make a 503 that says when to come back (RFC 9110 section 15.6.4)."""
    return problem(503, "Service Unavailable", detail, headers={"Retry-After": str(retry_after)})
