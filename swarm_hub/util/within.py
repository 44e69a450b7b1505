"""Waiting for something, or so long."""

import asyncio
from collections.abc import Awaitable


async def within(timeout_s: float | None, waiting: Awaitable[object]) -> bool:
    """Wait, at most so long, with None without end; returns whether it came to its end in time."""
    try:
        async with asyncio.timeout(timeout_s):
            await waiting
    except TimeoutError:
        return False
    return True
