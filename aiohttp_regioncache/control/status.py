"""The status page of a write: `/_regioncache/writes/<id>`, for its own principal."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from ..errors import RegionUnavailableError
from ..problems import problem, unavailable, wants_html
from ..store import ended, queue
from ..store.keyspace import Partition
from ..store.region import RegionStore
from .listing import is_blocking

_ID_PARTS: Final = 3
_MEANING: Final = {
    "pending": "Accepted in its region, on its way to the origin.",
    "synced": "The origin has it.",
    "rejected": "The origin refused it.",
    "dead": "It was given up; an operator can see it and decide what becomes of it.",
    "superseded": "A later write took its place.",
}


def find_write(write_id: str, stores: Mapping[str, RegionStore]) -> tuple[RegionStore, Partition] | None:
    """Find where a write of this id would be; None for what is no id of ours."""
    parts = write_id.rsplit("-", _ID_PARTS - 1)
    store = stores.get(parts[0])
    if len(parts) != _ID_PARTS or store is None or not (parts[1].isascii() and parts[1].isdecimal()):
        return None
    number = int(parts[1][:9])
    return (store, store.partitions[number]) if number < len(store.partitions) else None


async def write_status(
    request: web.Request, write_id: str, principals: Sequence[str], stores: Mapping[str, RegionStore]
) -> web.Response:
    """Show the state of a write to the principal who made it, one of `principals`; anybody else gets 404."""
    if request.method not in ("GET", "HEAD"):
        return problem(405, "Method Not Allowed", "A status can be read.", headers={"Allow": "GET, HEAD"})
    place = find_write(write_id, stores)
    if place is None:
        return _unknown()
    try:
        fields = await queue.status(*place, write_id)
        blocked = fields is not None and await _is_blocked(*place, fields)
    except RegionUnavailableError as error:
        return unavailable("The region of this write cannot be reached.", retry_after=error.retry_after)
    if fields is None or fields.get("principal") not in principals:
        return _unknown()
    document = describe(write_id, fields, is_blocked=blocked)
    if wants_html(request.headers.get("Accept", "")):
        return web.Response(text=_page(document), content_type="text/html", headers=_headers(document))
    return web.json_response(document, headers=_headers(document))


async def _is_blocked(store: RegionStore, partition: Partition, fields: Mapping[str, str]) -> bool:
    return fields["state"] == "pending" and bool(await ended.blocker(store, partition, fields.get("digest", "")))


def describe(write_id: str, fields: Mapping[str, str], *, is_blocked: bool = False) -> dict[str, Any]:
    """Describe a write for people and programs from the fields of its status; `is_blocked`: it waits behind another."""
    document: dict[str, Any] = {
        "id": write_id,
        "state": fields["state"],
        "meaning": _meaning(fields, is_blocked),
        "method": fields.get("method"),
        "url": fields.get("url"),
        "accepted": _time(fields.get("accepted")),
        "settled": _time(fields.get("settled")),
        "tries": int(fields.get("tries", 0)),
    }
    for name in ("reason", "problem", "by"):
        if name in fields:
            document[name] = fields[name]
    if "answer" in fields:
        headers = dict(queue.answer_headers(fields))
        document["answer"] = {"status": int(fields["answer"]), "headers": headers}
        if location := next((value for name, value in headers.items() if name.lower() == "location"), None):
            document["location"] = location
    return document


def _meaning(fields: Mapping[str, str], is_blocked: bool) -> str:
    if is_blocked:
        return "It waits behind an earlier write that was given up, until an operator has decided about that one."
    if "dropped" in fields:
        return "It was given up, and an operator has let it go."
    meaning = _MEANING.get(fields["state"], "")
    return f"{meaning} Later writes of the resource wait until then." if is_blocking(fields) else meaning


def _time(milliseconds: str | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="milliseconds")


def _headers(document: Mapping[str, Any]) -> dict[str, str]:
    pending = document["state"] == "pending"
    return {"Cache-Control": "no-store"} | ({"Retry-After": "1"} if pending else {})


def _unknown() -> web.Response:
    return problem(404, "Not Found", "No write of yours has this id, or it settled too long ago.")


def _page(document: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(_cell(value))}</td></tr>"
        for name, value in document.items()
        if value is not None and name not in ("state", "meaning")
    )
    refresh = '<meta http-equiv="refresh" content="1">' if document["state"] == "pending" else ""
    return _PAGE.format(
        refresh=refresh, state=html.escape(document["state"]), meaning=html.escape(document["meaning"]), rows=rows
    )


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{refresh}
<title>Write {state}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 44rem; padding: 0 1rem; color: #1c2733 }}
h1 {{ font-size: 1.4rem; margin-bottom: 0 }} table {{ border-collapse: collapse; margin-top: 1rem; width: 100% }}
th {{ text-align: left; width: 8rem; font-weight: 600; vertical-align: top }}
td {{ font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
th, td {{ border-bottom: 1px solid #dde3ea; padding: .35rem .5rem .35rem 0 }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #10161d; color: #dbe4ee }} th, td {{ border-color: #2a3541 }}
}}
</style></head><body><h1>This write is {state}</h1><p>{meaning}</p><table>{rows}</table></body></html>
"""
