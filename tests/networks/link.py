"""A slow, lossy or broken link: a TCP relay that delays, limits, stalls and cuts.

The kernel's own emulation (netem) is missing where the tests run, so this stands in for it. TCP
hides a lost packet and makes those behind it wait for its resending; that wait is what is
emulated. Bytes wait in a bounded buffer, as in a router, and before it in the sender's socket.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

UP, DOWN = "up", "down"
_PACKET_BYTES: Final = 1460
# Linux does not resend a packet sooner than this after a timeout.
_RESEND_MIN_S: Final = 0.2
_READ_BYTES: Final = 8 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a link is like in each direction; `loss` is the share of packets lost."""

    delay_s: float = 0.0
    bytes_a_second: float = float("inf")
    loss: float = 0.0
    buffer_bytes: int = 256 * 1024


PERFECT: Final = Quality()


class Link:
    """Relays what connects to `listener` to where `connect` leads, over a link of some quality.

    `up` is from who connects to who is connected to.
    """

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[], tuple[socket.socket, tuple[str, int]]],
        quality: Quality = PERFECT,
        seed: int = 1,
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._connect = connect
        self._quality = quality
        self._random = random.Random(seed)
        self._passing = asyncio.Event()
        self._passing.set()
        # Per direction: when the link has sent what it was given so far.
        self._busy_until = {UP: 0.0, DOWN: 0.0}
        self._relaying: set[asyncio.Task[None]] = set()
        self.passed_bytes: Counter[str] = Counter()
        # By how much the loop woke this too late at most: a delay of the machine, not of the link.
        self.late_s = 0.0
        self.connections = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Link"]:
        """Relay until the block ends."""
        task = asyncio.create_task(self._accept())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._listener.close()

    def cut(self) -> None:
        """Let nothing pass any more, and tell nobody: connections stay open."""
        self._passing.clear()

    def mend(self) -> None:
        """Let everything pass again, also what has waited."""
        self._passing.set()

    def reset(self) -> None:
        """Break every connection, as when a router restarts; what is under way is lost."""
        for relaying in self._relaying:
            relaying.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                near, _ = await loop.sock_accept(self._listener)
                relaying = group.create_task(self._relay(near))
                self._relaying.add(relaying)
                relaying.add_done_callback(self._relaying.discard)

    async def _relay(self, near: socket.socket) -> None:
        far, address = self._connect()
        try:
            for end in (near, far):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(far, address)
            self.connections += 1
            await self._both_ways(near, far)
        except OSError:
            # Nobody listens there: the near side is told by the end of its connection.
            return
        except asyncio.CancelledError:
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            raise
        finally:
            near.close()
            far.close()

    async def _both_ways(self, near: socket.socket, far: socket.socket) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(near, far, UP))
                group.create_task(self._carry(far, near, DOWN))
        except* OSError:
            # A connection that breaks on one side ends on the other too.
            pass

    async def _carry(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(
            max(1, self._quality.buffer_bytes // _READ_BYTES)
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(source, waiting, way))
            group.create_task(self._give(sink, waiting, way))

    async def _take(
        self, source: socket.socket, waiting: "asyncio.Queue[tuple[float, bytes]]", way: str
    ) -> None:
        loop = asyncio.get_running_loop()
        held_up_until = 0.0
        while True:
            data = await loop.sock_recv(source, _READ_BYTES)
            now = loop.time()
            sent_at = max(now, self._busy_until[way]) + len(data) / self._quality.bytes_a_second
            self._busy_until[way] = sent_at
            # In order: what is behind a lost packet waits for it too.
            due = max(held_up_until, sent_at + self._quality.delay_s) + self._resending_s(data)
            held_up_until = due
            await waiting.put((due, data))
            if not data:
                return

    async def _give(
        self, sink: socket.socket, waiting: "asyncio.Queue[tuple[float, bytes]]", way: str
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await waiting.get()
            wakes_at = max(due, loop.time())
            await asyncio.sleep(wakes_at - loop.time())
            self.late_s = max(self.late_s, loop.time() - wakes_at)
            await self._passing.wait()
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(sink, data)
            self.passed_bytes[way] += len(data)

    def _resending_s(self, data: bytes) -> float:
        packets = -(-len(data) // _PACKET_BYTES)
        lost = sum(self._random.random() < self._quality.loss for _ in range(packets))
        return lost * max(_RESEND_MIN_S, 2 * self._quality.delay_s)
