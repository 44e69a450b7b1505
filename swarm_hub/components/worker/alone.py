"""Running most things side by side, and some with nothing beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AloneOrTogether:
    """Whoever is alone waits until the others have ended, and those who come then wait for it."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Run beside others."""
        async with self._door:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run with nothing beside it."""
        async with self._door:
            await self._empty.wait()
            yield
