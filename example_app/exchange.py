"""One measured HTTP exchange."""

import asyncio
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and the milliseconds from the request to its last byte; status 0 means that none came."""

    status: int
    milliseconds: float
    body: bytes
    cache_status: str = ""
    location: str = ""

    @property
    def hit(self) -> bool:
        """Tell whether a cache answered (RFC 9211 section 2.1)."""
        return "hit" in self._parameters

    @property
    def dirty(self) -> bool:
        """Tell whether the answer contains writes that the origin does not have yet."""
        return "detail=dirty" in self._parameters

    @property
    def _parameters(self) -> list[str]:
        return [part.strip() for part in self.cache_status.split(";")[1:]]


async def exchange(client: aiohttp.ClientSession, method: str, path: str, *, body: bytes | None = None) -> Reply:
    """Send one request and read its answer; `body` is JSON. No answer: status 0, the reason as body."""
    loop = asyncio.get_running_loop()
    headers = None if body is None else {"Content-Type": "application/json"}
    started = loop.time()
    try:
        async with client.request(method, path, data=body, headers=headers) as response:
            content = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        return Reply(0, (loop.time() - started) * 1000, reason.encode())
    return Reply(
        response.status,
        (loop.time() - started) * 1000,
        content,
        response.headers.get("Cache-Status", ""),
        response.headers.get("Location", ""),
    )
