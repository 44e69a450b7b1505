"""A third transport, in one file: plain TCP on this device, where everybody is who it says it is.

It can only start, stop, dial and carry sessions, which is all that a transport has to.
"""

import asyncio
import contextlib

from swarm_hub.components.mesh.identity import is_peer_id
from swarm_hub.components.mesh.transports.base import TransportEvents, TransportOptions
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.framing import (
    FrameDecoder,
    FrameError,
    encode_frame,
    encode_message,
)
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.components.mesh.wire.send_queue import SendQueue
from swarm_hub.exceptions import MeshError

SCHEME = "plain"
PREFIX = "/plain/"


def make(options: TransportOptions) -> "PlainTransport":
    return PlainTransport(options.peer_id, options.limits, options.requests)


class PlainSession(FramedSession):
    """Reads and writes one connection until either side has enough."""

    def __init__(
        self,
        owner: "PlainTransport",
        peer_id: str,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        events: TransportEvents,
    ) -> None:
        host, port = streams[1].get_extra_info("peername")[:2]
        outbox = SendQueue(peer_id, owner.limits)
        super().__init__(peer_id, f"{PREFIX}{host}/{port}", outbox, owner.requests, events)
        self._owner = owner
        self._reader, self._writer = streams
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._parting: str | None = None

    async def run(self) -> None:
        writing = asyncio.create_task(self._write())
        try:
            reason = await self._read()
        except OSError:
            reason = "the connection was lost"
        finally:
            writing.cancel()
            self._writer.close()
        self._owner.sessions.pop(self.peer_id, None)
        self.over(self._parting or reason)
        self._events.peer_down(self, self._parting or reason)
        self._ended.set()

    async def close(self, reason: str) -> None:
        if self.is_over:
            return
        self._parting = reason
        self.outbox.discard_bulk()
        self._ready.set()
        try:
            async with asyncio.timeout(self._owner.limits.disconnect_timeout_s):
                await self._ended.wait()
        except TimeoutError:
            self._writer.transport.abort()
            await self._ended.wait()

    def _wake(self) -> None:
        self._ready.set()

    async def _read(self) -> str:
        decoder = FrameDecoder(self._owner.limits.max_frame_bytes)
        while data := await self._reader.read(65536):
            try:
                messages = decoder.feed(data)
            except FrameError as error:
                return f"the peer sent {error}"
            bye = messages.pop()[1] if messages and messages[-1][0] == "bye" else None
            self.received(messages, len(data))
            if bye is not None:
                return f"the peer said: {bye['reason']}"
        return "the connection was lost"

    async def _write(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._ready.clear()
                while (frame := self.outbox.next_frame()) is not None:
                    self._writer.write(frame)
                    await self._writer.drain()
                    self.room_freed()
                if self._parting is not None:
                    bye = encode_message("bye", {"reason": self._parting})
                    self._writer.write(encode_frame([bye]))
                    await self._writer.drain()
                    return
                await self._ready.wait()


class PlainTransport:
    """A `Transport` between hubs of one device."""

    def __init__(self, peer_id: str, limits: TransportLimits, requests: Requests) -> None:
        self.peer_id = peer_id
        self.limits = limits
        self.requests = requests
        self.sessions: dict[str, PlainSession] = {}
        self._events: TransportEvents | None = None
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._dialling: set[str] = set()
        self._begun = asyncio.Event()

    async def start(self, events: TransportEvents) -> None:
        self._events = events
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await asyncio.gather(*(each.close("the hub is stopping") for each in self._all()))
        await asyncio.gather(*self._running)

    def addresses(self) -> tuple[str, ...]:
        if self._server is None:
            return ()
        port = self._server.sockets[0].getsockname()[1]
        return (f"{PREFIX}127.0.0.1/{port}/p2p/{self.peer_id}",)

    async def dial(self, address: str) -> str:
        location, _, peer_id = address.removeprefix(PREFIX).partition("/p2p/")
        host, _, port = location.partition("/")
        if not (address.startswith(PREFIX) and port.isdigit() and is_peer_id(peer_id)):
            shape = f"{PREFIX}<host>/<port>/p2p/<peer id>"
            raise MeshError(f"address {address[:100]!r} is not understood: expected {shape}")
        if self._server is None:
            raise MeshError("the mesh is not running")
        if peer_id not in self.sessions:
            self._dialling.add(peer_id)
            try:
                async with asyncio.timeout(self.limits.dial_timeout_s):
                    await self._open(host, int(port), peer_id)
            except (OSError, TimeoutError) as error:
                raise MeshError(f"cannot dial {address}: {error or 'no answer'}") from error
            finally:
                self._dialling.discard(peer_id)
        return peer_id

    async def _open(self, host: str, port: int, peer_id: str) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{self.peer_id}\n".encode())
        answer = (await reader.readline()).decode().strip()
        if answer == peer_id:
            self._begin(peer_id, reader, writer)
            return
        writer.close()
        if answer != "busy":
            raise ConnectionError("somebody else answered")
        # Both have dialled at once, and the other one's connection is taken.
        while peer_id not in self.sessions:
            self._begun.clear()
            await self._begun.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer_id = (await reader.readline()).decode().strip()
        both_dial = peer_id in self._dialling and self.peer_id < peer_id
        is_busy = peer_id in self.sessions or both_dial or self._server is None
        writer.write(f"{'busy' if is_busy else self.peer_id}\n".encode())
        if is_busy:
            writer.close()
        else:
            self._begin(peer_id, reader, writer)

    def _begin(
        self, peer_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._events is not None
        session = PlainSession(self, peer_id, (reader, writer), self._events)
        self.sessions[peer_id] = session
        self._begun.set()
        self._events.peer_up(session)
        task = asyncio.create_task(session.run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _all(self) -> tuple[PlainSession, ...]:
        return tuple(self.sessions.values())
