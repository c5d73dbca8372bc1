"""Real servers and faults for the tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

__all__ = ["eventually"]


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within: float = 15.0) -> None:
    """Wait until `condition()`, or what it gives when awaited, holds; raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.003)
