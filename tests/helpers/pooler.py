"""A connection pooler as PgBouncer is in transaction mode, to the extent that a hub can notice.

Each client has two sessions of the server and is given the other one after each transaction; the
process id that it is told is made up. Clients of a real pooler share the sessions. It speaks to
servers that trust it.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swarm_hub.cli.swarm import free_port

_MADE_UP_PID = 0x7FFFFFF0
_SSL_REQUEST = 80_877_103
_SSL_REQUESTS = (_SSL_REQUEST, 80_877_104)

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def running_pooler(server_port: int, *, transactions: bool = True) -> AsyncIterator[int]:
    """Run a pooler; returns its port. Without `transactions` a client keeps its session."""
    port = free_port()
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        client = _Client(reader, writer, server_port, 2 if transactions else 1)
        try:
            await client.serve()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            client.close()
            served.discard(task)

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield port
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


class _Client:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_port: int,
        n_sessions: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._server_port = server_port
        self._n_sessions = n_sessions
        self._sessions: list[_Streams] = []

    async def serve(self) -> None:
        """Take the client in, then pass on what both sides say."""
        start = await self._start_message()
        for number in range(self._n_sessions):
            session = await asyncio.open_connection("127.0.0.1", self._server_port)
            self._sessions.append(session)
            session[1].write(start)
            await self._until_ready(session[0], told=number == 0)
        async with asyncio.TaskGroup() as group:
            answers = group.create_task(self._answers())
            while message := await self._reader.read(1 << 16):
                self._sessions[0][1].write(message)
            answers.cancel()

    def close(self) -> None:
        """Close all connections."""
        for writer in (self._writer, *(writer for _, writer in self._sessions)):
            writer.close()

    async def _start_message(self) -> bytes:
        while True:
            head = await self._reader.readexactly(8)
            size, code = struct.unpack("!ii", head)
            if code not in _SSL_REQUESTS:
                return head + await self._reader.readexactly(size - 8)
            self._writer.write(b"N")

    async def _until_ready(self, reader: asyncio.StreamReader, *, told: bool) -> None:
        kind = b""
        while kind != b"Z":
            kind, body = await _message(reader)
            if kind == b"K":
                body = struct.pack("!i", _MADE_UP_PID) + body[4:]
            if told:
                self._writer.write(_framed(kind, body))

    async def _answers(self) -> None:
        while True:
            kind, body = await _message(self._sessions[0][0])
            # Nothing of the client is under way when the server says that it is idle.
            if (kind, body) == (b"Z", b"I"):
                self._sessions.append(self._sessions.pop(0))
            self._writer.write(_framed(kind, body))


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], await reader.readexactly(size - 4)


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
