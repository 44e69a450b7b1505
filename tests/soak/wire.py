"""The wire between a worker and a gateway: a TCP proxy that delays bytes and cuts connections."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from swarm_hub.cli.swarm import free_port

_READ_BYTES = 1 << 16
# A chunk of this size towards the gateway is more than a heartbeat.
_SPOKEN_BYTES = 300


class Link:
    """What one worker dials instead of one gateway."""

    def __init__(self, gateway_port: int, rng: random.Random) -> None:
        self._gateway_port = gateway_port
        self._rng = rng
        self._delay_s = 0.0
        self._cut_after_words = False
        self._ways: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()

    async def open(self) -> None:
        """Listen for the worker."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    def delay(self, up_to_s: float) -> None:
        """Hold each chunk back for a random time up to that; 0 ends it."""
        self._delay_s = up_to_s

    def cut(self) -> None:
        """Reset every connection; bytes under way are lost."""
        for ends in tuple(self._ways):
            for end in ends:
                end.transport.abort()

    def cut_after_words(self) -> None:
        """Hand the worker's next words to the gateway, and lose the gateway's answer."""
        self._cut_after_words = True

    async def close(self) -> None:
        """Stop listening and cut."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, worker: asyncio.StreamWriter) -> None:
        try:
            answers, gateway = await asyncio.open_connection("127.0.0.1", self._gateway_port)
        except OSError:
            worker.transport.abort()
            return
        ways = (worker, gateway)
        self._ways.add(ways)
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(_quietly(self._up(reader, gateway, worker)))
                down = group.create_task(_quietly(self._down(answers, worker)))
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            self._ways.discard(ways)
            for end in ways:
                end.close()

    async def _up(
        self,
        reader: asyncio.StreamReader,
        gateway: asyncio.StreamWriter,
        worker: asyncio.StreamWriter,
    ) -> None:
        while chunk := await reader.read(_READ_BYTES):
            await self._hold_back()
            gateway.write(chunk)
            await gateway.drain()
            if self._cut_after_words and len(chunk) >= _SPOKEN_BYTES:
                self._cut_after_words = False
                # Closed in order, so that what was written still arrives.
                worker.transport.abort()
                return

    async def _down(self, answers: asyncio.StreamReader, worker: asyncio.StreamWriter) -> None:
        while chunk := await answers.read(_READ_BYTES):
            await self._hold_back()
            worker.write(chunk)
            await worker.drain()

    async def _hold_back(self) -> None:
        if self._delay_s:
            await asyncio.sleep(self._rng.uniform(0, self._delay_s))


async def _quietly(carrying: Coroutine[Any, Any, None]) -> None:
    with suppress(OSError):
        await carrying
