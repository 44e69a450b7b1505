"""What waits to be sent to one client: bounded, sent in batches, and the reader's fault if late."""

import asyncio
import logging
from collections import deque
from functools import lru_cache
from typing import Final

from aiohttp import web

from swarm_hub.components.api.connections import Connection
from swarm_hub.components.api.live.frames import compressed_frame, text_frame
from swarm_hub.tasks import TaskSupervisor

_LOGGER = logging.getLogger(__name__)

_PENDING_MAX: Final = 4096
_PENDING_MAX_BYTES: Final = 16 * 1024 * 1024
_LONG_BYTES: Final = 1024 * 1024
# In one write: as much as the transport takes before it says that the client does not read.
_BATCH_BYTES: Final = 64 * 1024
# Below this compressing costs more than it saves; an event alone is about 250 bytes.
_COMPRESSED_FROM_BYTES: Final = 4096
# Beyond this it takes so long that others would wait for it.
_IN_THREAD_FROM_BYTES: Final = 64 * 1024
# How long a client that is let go has to read why.
_TELL_WITHIN_S: Final = 5.0
_POLICY_VIOLATION: Final = 1008

# The same batch goes to every client that subscribed to the same under the same id.
_shared_frame = lru_cache(maxsize=8)(compressed_frame)


class Outbox:
    """The messages to one client, each JSON in UTF-8."""

    def __init__(
        self, socket: web.WebSocketResponse, wire: Connection, tasks: TaskSupervisor
    ) -> None:
        self._socket = socket
        self._wire = wire
        self._tasks = tasks
        self._window_bits = int(socket.compress)
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._closed = False
        self.coalesce = False

    @property
    def open(self) -> bool:
        """Whether what is put into it can reach the client."""
        return not (self._closed or self._socket.closed)

    @property
    def is_long(self) -> bool:
        """Whether so much waits that what can wait should."""
        return self._pending_bytes > _LONG_BYTES

    def put(self, message: bytes) -> None:
        """Queue a message; a client for whom too much waits is let go."""
        if self._closed:
            return
        if len(self._pending) >= _PENDING_MAX or self._pending_bytes > _PENDING_MAX_BYTES:
            self.let_go(
                f"more than {_PENDING_MAX} messages or {_PENDING_MAX_BYTES >> 20} MiB are waiting; "
                "read faster, or resume"
            )
            return
        self._pending.append(message)
        self._pending_bytes += len(message)
        self._sent_all.clear()
        self._wake.set()

    def let_go(self, reason: str) -> None:
        """Tell the client why and disconnect it; it can resume after the last event it was sent."""
        if not self._closed:
            self.close()
            self._tasks.spawn(self._close(reason), "let a websocket go")

    def close(self) -> None:
        """Take nothing more: the client has left."""
        self._closed = True
        self._forget()

    async def sent(self) -> None:
        """Wait until everything was sent, or nothing can be any more."""
        if self._pending and not self._closed:
            await self._sent_all.wait()

    async def run(self) -> None:
        """Send what is put into it until the client leaves."""
        try:
            while self.open:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    await self._wire.send(await self._batch())
                self._sent_all.set()
        except ConnectionError as error:
            # What reads from it ends by itself.
            _LOGGER.debug("A websocket's client left: %s", error)
        finally:
            # Who waits for the reader must not wait for one that has disconnected.
            self.close()

    def _forget(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0
        self._sent_all.set()
        self._wake.set()

    async def _close(self, reason: str) -> None:
        try:
            await self._socket.close(code=_POLICY_VIOLATION, message=reason.encode())
        finally:
            # One that reads nothing would be kept until the network gives it up.
            asyncio.get_running_loop().call_later(_TELL_WITHIN_S, self._wire.cut)

    async def _batch(self) -> bytes:
        """Take the next messages, as frames."""
        taken: list[bytes] = []
        n_bytes = 0
        while self._pending and n_bytes < _BATCH_BYTES:
            message = self._pending.popleft()
            n_bytes += len(message)
            taken.append(message)
        self._pending_bytes -= n_bytes
        if self.coalesce and len(taken) > 1:
            taken = [b"[" + b",".join(taken) + b"]"]
        if len(taken) == 1:
            return await self._frame(taken[0])
        return b"".join([await self._frame(message) for message in taken])

    async def _frame(self, message: bytes) -> bytes:
        if not self._window_bits or len(message) < _COMPRESSED_FROM_BYTES:
            return text_frame(message)
        if len(message) < _IN_THREAD_FROM_BYTES:
            return _shared_frame(message, self._window_bits)
        return await asyncio.to_thread(compressed_frame, message, self._window_bits)
