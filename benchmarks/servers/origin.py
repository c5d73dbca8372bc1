"""An origin that answers at once: HTTP/1.1 by hand, so that it is never what is waited for.

`GET /SIZE...` may be stored for a day, `GET /fresh/SIZE...` not at all; other methods answer 204 when the body is
there, and `POST /bulk` says 204 of every write in it.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Final

from ..bodies import body_at
from ..processes import HOST

_HEAD_END: Final = b"\r\n\r\n"
_TAKEN: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_KEPT: Final = 20_000


class Origin(asyncio.Protocol):
    """One connection of keep-alive requests."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        received = self._received + data if self._received else data
        while received:
            end = received.find(_HEAD_END)
            if end < 0:
                break
            head = received[:end]
            whole = end + len(_HEAD_END) + _length_in(head)
            if len(received) < whole:
                break
            self._transport.write(_answer(head, received[end + len(_HEAD_END) : whole]))
            received = received[whole:]
        self._received = received


def _length_in(head: bytes) -> int:
    at = head.find(b"\r\nContent-Length:")
    if at < 0:
        return 0
    value = head[at + len(b"\r\nContent-Length:") :].partition(b"\r\n")[0]
    return int(value)


def _answer(head: bytes, body: bytes) -> bytes:
    method, target, _ = head.split(b" ", 2)
    if method == b"GET":
        return _page(target.decode())
    if target != b"/bulk":
        return _TAKEN
    answers = b'{"status":204}' + b',{"status":204}' * (body.count(b'"idempotency_key":') - 1)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n[%b]" % (
        len(answers) + 2,
        answers,
    )


@functools.lru_cache(_KEPT)
def _page(target: str) -> bytes:
    body = body_at(target)
    control = "no-store" if target.startswith("/fresh/") else "max-age=86400"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: {control}\r\nContent-Length: {len(body)}"
    return head.encode() + _HEAD_END + body


async def main() -> None:
    """Listen until a signal ends the process."""
    server = await asyncio.get_running_loop().create_server(Origin, HOST, int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
