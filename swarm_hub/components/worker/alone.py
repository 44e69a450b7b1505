"""Running most things side by side, and some with nothing beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AloneOrTogether:
    """Whoever is alone waits until the others have ended, and those who come then wait for it."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._emptied = asyncio.Event()

    async def enter(self) -> None:
        """Run beside others from now on, until `leave`."""
        if self._door.locked():
            async with self._door:
                self._inside += 1
        else:
            self._inside += 1

    def leave(self) -> None:
        """Be done."""
        self._inside -= 1
        if not self._inside:
            self._emptied.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run with nothing beside it."""
        async with self._door:
            while self._inside:
                self._emptied.clear()
                await self._emptied.wait()
            yield
