"""Many websocket clients in a process of their own, which count events and parse none.

They read what comes in bulk, as `coalesce_messages` lets them, so that a thousand cost little.
"""

import asyncio
import base64
import contextlib
import json
import os
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from swarm_hub.const import WEBSOCKET_PATH

_SEQ: Final = b'"seq":'
_ENDED: Final = b'"job_completed"'
_EVENT_MAX_BYTES: Final = 512
_OPENING_AT_ONCE: Final = 50
_WITHIN_S: Final = 120.0


@dataclass(slots=True)
class Listeners:
    """The process, and how many events its clients have heard together."""

    process: asyncio.subprocess.Process
    heard: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, url: str, token: str, count: int) -> AsyncIterator["Listeners"]:
        """Have so many clients subscribed to all events."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, url, token, str(count),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        listeners = cls(process)
        try:
            await listeners._told()
            yield listeners
        finally:
            process.kill()
            await process.wait()

    async def until(self, job_id: str) -> tuple[float, int]:
        """Return when all had heard the end of a job, by the monotonic clock, and of how many."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{job_id}\n".encode())
        told = await self._told()
        self.heard = told["heard"]
        return told["at"], told["heard"]

    async def _told(self) -> Any:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), _WITHIN_S)
        if not line:
            raise SystemExit("the listeners have ended")
        return json.loads(line)


class _Listener(asyncio.Protocol):
    """One client: it says hello, and counts."""

    def __init__(self, token: str) -> None:
        self.heard = 0
        self.ended: set[bytes] = set()
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told = asyncio.Event()
        self._token = token
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port = transport.get_extra_info("peername")[:2]
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {WEBSOCKET_PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            .encode()
        )  # fmt: skip
        for message in (
            {"type": "auth", "access_token": self._token},
            {"id": 1, "type": "supported_features", "features": {"coalesce_messages": 1}},
            {"id": 2, "type": "subscribe_events"},
        ):
            transport.write(_frame(json.dumps(message).encode()))

    def data_received(self, data: bytes) -> None:
        if not self.subscribed.done():
            if b'"last_seq"' in data:
                self.subscribed.set_result(None)
            return
        # An event may come in two reads.
        self.heard -= self._tail.count(_SEQ)
        data = self._tail + data
        self._tail = data[-_EVENT_MAX_BYTES:]
        self.heard += data.count(_SEQ)
        at = data.find(_ENDED)
        while at >= 0:
            self.ended.add(data[at : at + _EVENT_MAX_BYTES])
            at = data.find(_ENDED, at + 1)
            self.told.set()

    def connection_lost(self, exc: Exception | None) -> None:
        print("a listener was let go of", exc, file=sys.stderr)

    def has_ended(self, job_id: bytes) -> bool:
        return any(job_id in each for each in self.ended)


def _frame(body: bytes) -> bytes:
    """Return a text frame (RFC 6455) whose mask leaves it as it is."""
    length = (
        bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
    )
    return b"\x81" + length + bytes(4) + body


async def listen(url: str, token: str, count: int) -> None:
    """Connect; for each job id that comes in, say when all have heard of its end."""
    host, _, port = url.rpartition("/")[2].partition(":")
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(_OPENING_AT_ONCE)

    async def connected() -> _Listener:
        async with gate:
            _, made = await loop.create_connection(lambda: _Listener(token), host, int(port))
            await made.subscribed
            return made

    listeners = await asyncio.gather(*(connected() for _ in range(count)))
    print(json.dumps({"subscribed": count}), flush=True)
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while job_id := (await asked.readline()).strip():
        for each in listeners:
            while not each.has_ended(job_id):
                each.told.clear()
                await each.told.wait()
        at = time.monotonic()
        for each in listeners:
            each.ended.clear()
        heard = sum(each.heard for each in listeners)
        print(json.dumps({"at": at, "heard": heard}), flush=True)


if __name__ == "__main__":
    asyncio.run(listen(sys.argv[1], sys.argv[2], int(sys.argv[3])))
