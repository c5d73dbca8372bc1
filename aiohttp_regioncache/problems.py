"""Error answers as RFC 9457 problem details."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{status} {title}</title>
<style>
:root {{ color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif }}
body {{ margin: 0; min-height: 100vh; display: grid; place-content: center; padding: 1.5rem; box-sizing: border-box }}
main {{ max-width: 34rem }}
p.status {{ font-size: 3.5rem; font-weight: 200; margin: 0; line-height: 1; opacity: .55 }}
h1 {{ font-size: 1.5rem; margin: .5rem 0 }}
p {{ margin: 0 }}
</style>
<main>
<p class="status">{status}</p>
<h1>{title}</h1>
<p>{detail}</p>
</main>
</html>
"""


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


def shown_problem(
    request: web.Request, status: int, title: str, detail: str, *, kind: type[web.Response] = web.Response
) -> web.Response:
    """Make the answer for what fails between a user and an origin: a page for who wants one, else a problem."""
    if not wants_html(request.headers.get("Accept", "")):
        return problem(status, title, detail, kind=kind)
    page = _PAGE.format(status=status, title=html.escape(title), detail=html.escape(detail))
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return kind(status=status, body=page.encode(), content_type="text/html", charset="utf-8", headers=headers)


def wants_html(accept: str) -> bool:
    """Whether an `Accept` field asks for a page, and not for JSON as well."""
    return "text/html" in accept and "application/json" not in accept


def unavailable(detail: str, *, retry_after: int = 1) -> web.Response:
    """Make a 503 that says when to come back (RFC 9110 section 15.6.4)."""
    return problem(503, "Service Unavailable", detail, headers={"Retry-After": str(retry_after)})
