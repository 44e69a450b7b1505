"""The wire between a worker and a gateway: a TCP proxy that delays bytes and cuts connections.

It has the ports of the gateway at another address of loopback, so that what a worker dials at the
address of its session comes here as well: the connections of the bulk and of the express plane.
"""

import asyncio
import functools
import itertools
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

_READ_BYTES = 1 << 16
# A chunk of this size towards the gateway is more than a heartbeat.
_SPOKEN_BYTES = 300
_hosts = (f"127.0.1.{number}" for number in itertools.count(1))


class Link:
    """What one worker dials instead of one gateway."""

    def __init__(self, mesh_port: int, bulk_port: int, rng: random.Random) -> None:
        self._ports = (mesh_port, bulk_port)
        self._bulk_port = bulk_port
        self._rng = rng
        self._delay_s = 0.0
        self._cut_after_words = False
        # Each with the gateway's port that it leads to.
        self._ways: dict[tuple[asyncio.StreamWriter, asyncio.StreamWriter], int] = {}
        self._servers: list[asyncio.Server] = []
        self.host = next(_hosts)

    async def open(self) -> None:
        """Listen for the worker."""
        for port in self._ports:
            carry = functools.partial(self._carry, port)
            self._servers.append(await asyncio.start_server(carry, self.host, port))

    def delay(self, up_to_s: float) -> None:
        """Hold each chunk back for a random time up to that; 0 ends it."""
        self._delay_s = up_to_s

    def cut(self) -> None:
        """Reset every connection; bytes under way are lost."""
        for ends in tuple(self._ways):
            for end in ends:
                end.transport.abort()

    def cut_express(self) -> int:
        """Reset what goes beside the session: express and bulk; returns how many there were."""
        beside = [ends for ends, port in self._ways.items() if port == self._bulk_port]
        for ends in beside:
            for end in ends:
                end.transport.abort()
        return len(beside)

    def cut_after_words(self) -> None:
        """Hand the worker's next words to the gateway, and lose the gateway's answer."""
        self._cut_after_words = True

    async def close(self) -> None:
        """Stop listening and cut."""
        for server in self._servers:
            server.close()
        self.cut()
        for server in self._servers:
            await server.wait_closed()

    async def _carry(
        self, port: int, reader: asyncio.StreamReader, worker: asyncio.StreamWriter
    ) -> None:
        try:
            answers, gateway = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            worker.transport.abort()
            return
        ways = (worker, gateway)
        self._ways[ways] = port
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(_quietly(self._up(reader, gateway, worker)))
                down = group.create_task(_quietly(self._down(answers, worker)))
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            del self._ways[ways]
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
