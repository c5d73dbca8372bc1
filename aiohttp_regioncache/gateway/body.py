"""The body of a request on its way to an origin, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web


class ComingBody:
    """A body that comes in while it goes out.

    It breaks off, and says so, when it is longer than `limit` bytes as they are read, which the field that says how
    long it is need not know, and when nothing comes for `timeout` seconds.
    """

    def __init__(self, request: web.Request, limit: int, timeout: float) -> None:
        self._content = request.content
        self._limit = limit
        self._timeout = timeout
        self.is_too_long = False
        self.is_late = False

    @property
    def has_failed(self) -> bool:
        """Whether it is the client's fault that it did not arrive."""
        return self.is_too_long or self.is_late or self._content.exception() is not None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces in which it comes."""
        size = 0
        while chunk := await self._next():
            size += len(chunk)
            if size > self._limit:
                self.is_too_long = True
                raise ValueError("the body is too long")
            yield chunk

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._content.readany()
        except TimeoutError:
            self.is_late = True
            raise
