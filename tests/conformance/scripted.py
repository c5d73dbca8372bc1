"""An origin that answers as its script says, octet by octet, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from typing import Final, Self

from aiohttp_regioncache.semantics.dates import format_date

from .case import Answer
from .wire import NO_BODY, Head, Lines, read_body, read_head, write_head

_BRACES: Final = re.compile(r"\{(?:([+-]\d+)(?:\|(rfc850|asctime|lower))?|(path|authority))\}")
_NOT_CONDITIONAL: Final = 599
_ONE_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


def date(offset: int, form: str | None = None) -> str:
    """Write the time `offset` seconds from now as an HTTP-date, in one of the obsolete forms or in lower case too."""
    when = time.time() + offset
    if form == "rfc850":
        return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(when))
    if form == "asctime":
        return time.asctime(time.gmtime(when))
    return format_date(when).lower() if form else format_date(when)


def fill(line: str, path: str, authority: str) -> tuple[str, str]:
    """Make a field line of `Name: value`.

    `{-60}` becomes the date of a minute ago, `{+60|rfc850}` one in a minute in that form; `{path}` the path of the
    case, `{authority}` the edge's host and port.
    """

    def text(match: re.Match[str]) -> str:
        if match[1]:
            return date(int(match[1]), match[2])
        return path if match[3] == "path" else authority

    name, _, value = _BRACES.sub(text, line).partition(":")
    return name, value.strip()


class ScriptedOrigin:
    """Listen on loopback. `scripts` holds by case the answer to its next requests, `seen` the heads it was sent.

    `fallback` is the answer to requests of no case.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, tuple[Answer, bytes]] = {}
        self.seen: defaultdict[str, list[Head]] = defaultdict(list)
        self.fallback: tuple[Answer, bytes] = (Answer(status=404), b"")
        self.authority = ""
        self._server: asyncio.Server
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Address of the origin."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection ends with it."""
        head = await read_head(reader)
        await read_body(reader, head, to_end=False)
        method, target, _ = head.start.split(" ")
        name = (*target.split("/"), "", "")[2].partition("?")[0]
        script, body = self.scripts.get(name, self.fallback)
        self.seen[name].append(head)
        if script.cut:
            return False
        writer.write(self._message(script, body, head, method, f"/c/{name}"))
        await writer.drain()
        return not script.broken

    def _message(self, script: Answer, body: bytes, asked: Head, method: str, path: str) -> bytes:
        interim = b"".join(
            write_head(f"HTTP/1.1 {status} Interim", [fill(line, path, self.authority) for line in lines])
            for status, lines in script.interim
        )
        is_conditional = any(name.lower() in ("if-none-match", "if-modified-since") for name, _ in asked.lines)
        # A 304 to who did not ask for one would be the origin's fault, not the cache's.
        status = _NOT_CONDITIONAL if script.status == 304 and not is_conditional else script.status
        lines = [fill(line, path, self.authority) for line in script.lines]
        if script.ranged and (found := _range(asked, lines, len(body))):
            first, last = found
            lines.append(("Content-Range", f"bytes {first}-{last}/{len(body)}"))
            status, body = 206, body[first : last + 1]
        head = write_head(f"HTTP/1.1 {status} Scripted", [*lines, *_added(script, status, lines, body)])
        if status in NO_BODY or method == "HEAD":
            return interim + head
        return interim + head + (body[: len(body) // 2] if script.broken else body)


def _added(script: Answer, status: int, lines: Lines, body: bytes) -> Lines:
    present = {name.lower() for name, _ in lines}
    added: Lines = []
    if script.dated and "date" not in present:
        added.append(("Date", date(0)))
    if status not in NO_BODY and not present & {"content-length", "transfer-encoding"}:
        added.append(("Content-Length", str(len(body))))
    return added


def _range(asked: Head, lines: Lines, length: int) -> tuple[int, int] | None:
    """The first and the last octet that a request wants of `length`, as far as one range can be given."""
    match = _ONE_RANGE.fullmatch(asked.get("range") or "")
    condition = asked.get("if-range")
    if match is None or (condition is not None and condition not in (value for _, value in lines)):
        return None
    first = int(match[1]) if match[1] else max(0, length - int(match[2]))
    last = min(int(match[2]), length - 1) if match[1] and match[2] else length - 1
    return (first, last) if first <= last else None
