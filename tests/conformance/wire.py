"""HTTP/1.1 on a stream, field line by field line: what a library would hide or mend is seen and sent as it is."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

Lines = list[tuple[str, str]]
"""Field lines as they are on the wire, in their order."""

NO_BODY: Final = frozenset({204, 304})


class Head(NamedTuple):
    """The start line and the field lines of a message."""

    start: str
    lines: Lines

    def values(self, name: str) -> list[str]:
        """The values of every line of that name."""
        return [value for line, value in self.lines if line.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a field, its lines combined (RFC 9110 section 5.3); None without one."""
        found = self.values(name)
        return ", ".join(found) if found else None

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.start.split(" ", 2)[1])


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read the head of a message. Raises `asyncio.IncompleteReadError` at the end of the stream."""
    block = await reader.readuntil(b"\r\n\r\n")
    start, *rest = block.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in rest)
    return Head(start, [(name, value.strip(" \t")) for name, _, value in pairs])


async def read_body(reader: asyncio.StreamReader, head: Head, *, to_end: bool) -> bytes:
    """Read a body by its framing (RFC 9112 section 6.3); `to_end`: without any, up to the end of the stream."""
    if (head.get("transfer-encoding") or "").lower().endswith("chunked"):
        return await _chunked(reader)
    if (length := head.get("content-length")) is not None:
        return await reader.readexactly(int(length))
    return await reader.read() if to_end else b""


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(pieces)


def write_head(start: str, lines: Lines) -> bytes:
    """Spell the head of a message; characters up to U+00FF are octets."""
    return "".join((start, "\r\n", *(f"{name}: {value}\r\n" for name, value in lines), "\r\n")).encode("latin-1")


class Received(NamedTuple):
    """A response as a client got it: what came before it, its head, its body."""

    interim: list[Head]
    head: Head
    body: bytes


async def exchange(
    host: str, port: int, method: str, target: str, lines: Lines, body: bytes, *, version: str = "1.1"
) -> Received:
    """Send one request on a connection of its own and read the response.

    Raises `OSError` or `asyncio.IncompleteReadError` when the peer breaks off.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    try:
        length: Lines = [("Content-Length", str(len(body)))] if body or method in ("POST", "PUT", "PATCH") else []
        named: Lines = [] if any(name.lower() == "host" for name, _ in lines) else [("Host", f"{host}:{port}")]
        writer.write(write_head(f"{method} {target} HTTP/{version}", [*named, *lines, *length]) + body)
        return await _response(reader, method)
    finally:
        writer.close()


async def _response(reader: asyncio.StreamReader, method: str) -> Received:
    interim: list[Head] = []
    while 100 <= (head := await read_head(reader)).status < 200:
        interim.append(head)
    bodiless = method == "HEAD" or head.status in NO_BODY
    return Received(interim, head, b"" if bodiless else await read_body(reader, head, to_end=True))
