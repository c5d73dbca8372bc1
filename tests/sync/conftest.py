"""An origin for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.origin import Origin


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin
