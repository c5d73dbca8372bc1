"""The answers to writes that were queued, as octets: they differ by the write's id, and by the second."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from ..responses import Octets, head_of

MakeReceipt = Callable[[str], web.Response]
"""The answer to a queued write, by its id."""


class Receipts(Octets[str]):
    """The answers to the writes of one kind, whose ids have one length; `make` makes them."""

    def __init__(self, make: MakeReceipt) -> None:
        self._make = make
        self._second = -1
        self._pieces: list[bytes] = []

    def octets(self, of: str) -> bytes:
        """The answer to the write of an id."""
        if int(time.time()) != self._second:
            self._write(of)
        return of.encode().join(self._pieces)

    def head(self, of: str) -> bytes:
        """Its status line and fields."""
        return self.octets(of).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def ordinary(self, of: str) -> web.Response:
        """The answer as a middleware sees it."""
        return self._make(of)

    def _write(self, write_id: str) -> None:
        """Write one answer; the others have their ids where it has its own."""
        second = int(time.time())
        response = self._make(write_id)
        for cookie in response.cookies.values():
            response.headers.add("Set-Cookie", cookie.output(header="")[1:])
        body = response.body
        assert isinstance(body, bytes)  # noqa: S101 - it is made of JSON
        self._pieces = (head_of(response, len(body)) + body).split(write_id.encode())
        self._second = second
