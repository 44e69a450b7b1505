"""Two sides with a session in memory and real express connections between them, over a relay."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from swarm_hub.components.mesh.express.offers import ASK, Place
from swarm_hub.components.mesh.express.plane import ExpressPlane
from swarm_hub.components.mesh.identity import parse_listen_address
from swarm_hub.components.mesh.listener import DirectListener
from swarm_hub.components.mesh.transports.base import Proof, Session
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.framing import FrameDecoder, encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.components.mesh.wire.send_queue import SendQueue
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.clock import Clock

HERE = parse_listen_address("/ip4/127.0.0.1/tcp/0")
LIMITS = TransportLimits(send_timeout_s=2.0, flood_patience_s=0.5)


class MemorySession(FramedSession):
    """One end of a stream in memory."""

    other: "MemorySession"

    def __init__(self, peer_id: str, side: "ExpressSide") -> None:
        self.stream = SendQueue(peer_id, LIMITS)
        self.generation = (b"g" * 16, side.generation)
        super().__init__(peer_id, "/ip4/127.0.0.1/tcp/1", self.stream, Requests(), side)
        self._decoder = FrameDecoder()
        self.reason: str | None = None
        # While it is cleared nothing arrives from the other end.
        self.is_slow = False

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        if self.is_over or self.other.is_slow:
            return
        while (frame := self.stream.next_frame()) is not None:
            asyncio.get_running_loop().call_soon(self.other.arrived, frame)
            self.room_freed()

    def arrived(self, frame: bytes) -> None:
        if not self.is_over:
            self.received(self._decoder.feed(frame), len(frame))

    def go_on(self) -> None:
        """Let what the other end has sent meanwhile arrive."""
        self.is_slow = False
        self.other._wake()

    async def close(self, reason: str) -> None:
        for end, told in ((self, reason), (self.other, f"the peer said: {reason}")):
            if not end.is_over:
                end.reason = told
                end.over(told)


class ExpressSide:
    """What a hub is to its express plane: it knows one session and keeps what comes."""

    other: "ExpressSide"
    session: MemorySession | None

    def __init__(self, name: str, tasks: TaskSupervisor, silent_s: float) -> None:
        self.name = name
        self.key = os.urandom(32)
        self.generation = 1
        self.messages: list[Message] = []
        # Of each message, whether its connection proves whose it is.
        self.proofs: list[Proof | None] = []
        self.floods: list[str] = []
        self.headers: list[bytes] = []
        self.listener = DirectListener(lambda _ip: False)
        self.clock = Clock()
        self.plane = ExpressPlane(self, self.listener, tasks, self.clock, LIMITS, silent_s)
        self.plane.sign_with(lambda: self.key, self.send_alone)
        self.session = None

    def live(self) -> MemorySession:
        assert self.session is not None
        return self.session

    def say(self, number: int) -> None:
        self.live().send(encode_message("n", {"n": number}))

    def numbers(self) -> list[int]:
        return [fields["n"] for kind, fields in self.messages if kind == "n"]

    @property
    def is_express(self) -> bool:
        return self.session is not None and self.session.is_express

    def state(self) -> str:
        """Say where this side stands, for the message of a test that waited in vain."""
        session = self.live()
        planes = vars(session.planes)
        return f"{self.name}: over: {session.is_over}, heard {len(self.numbers())}, {planes}"

    def send_alone(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> bytes | None:
        header = os.urandom(40)
        self.headers.append(header)
        plane, key = self.other.plane, self.key
        take = plane.on_ask if kind == ASK else plane.on_offer
        asyncio.get_running_loop().call_soon(take, self.name, fields, header, key)
        return header

    # What the plane asks

    def place(self, session: Session) -> Place | None:
        if session is not self.session or self.session.generation is None:
            return None
        return Place(self.name, self.other.name, self.session.generation)

    def session_of(self, peer_id: str) -> Session | None:
        session = self.session
        return None if session is None or session.is_over else session

    def host_of(self, peer_id: str) -> str | None:
        return "127.0.0.1"

    def flooded(self, peer_id: str, reason: str) -> None:
        self.floods.append(reason)

    def went_express(self, session: Session) -> None:
        session.send(encode_message("heartbeat", {"t": 1.0}))

    # What the session tells

    def received(
        self, session: Session, messages: Sequence[Message], proof: Proof | None = None
    ) -> None:
        self.messages.extend(messages)
        self.proofs.extend([proof] * len(messages))


class ExpressPair:
    """A gateway, which listens, and a worker, which asks."""

    def __init__(self, silent_s: float = 20.0) -> None:
        self.tasks = TaskSupervisor()
        self.gateway = ExpressSide("gateway", self.tasks, silent_s)
        self.worker = ExpressSide("worker", self.tasks, silent_s)
        self.gateway.other, self.worker.other = self.worker, self.gateway

    def meet(self) -> None:
        """Begin a session; the one before ends, as on a real transport."""
        for side in (self.gateway, self.worker):
            side.generation += 1
            side.session = MemorySession(side.other.name, side)
        ours, theirs = self.gateway.live(), self.worker.live()
        ours.other, theirs.other = theirs, ours

    async def until(self, condition: Any, what: str = "the condition") -> None:
        try:
            async with asyncio.timeout(15):
                while not condition():  # noqa: ASYNC110  what is waited for sets no event
                    await asyncio.sleep(0.002)
        except TimeoutError:
            sides = "; ".join(side.state() for side in (self.gateway, self.worker))
            raise AssertionError(f"no sign of {what}: {sides}") from None

    @property
    def is_express(self) -> bool:
        return self.gateway.is_express and self.worker.is_express

    def check_order(self) -> None:
        """Each side has heard what the other has said, in order, nothing twice, none left out."""
        for side in (self.gateway, self.worker):
            assert side.numbers() == list(range(len(side.numbers())))


@contextlib.asynccontextmanager
async def express_pair(silent_s: float = 20.0) -> AsyncIterator[ExpressPair]:
    """Return two sides with a session."""
    pair = ExpressPair(silent_s)
    pair.gateway.listener.start(HERE, pair.tasks)
    pair.meet()
    try:
        yield pair
    finally:
        for side in (pair.worker, pair.gateway):
            await side.live().close("the test is over")
        await pair.gateway.listener.stop()
        await pair.tasks.stop(5)
        # What was closed is let go of in the next turn of the loop.
        await asyncio.sleep(0.01)


class Relay:
    """A path that passes on so many bytes of each way, changed by `change`, and then breaks."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.passes: dict[str, float] = {"up": float("inf"), "down": float("inf")}
        self.passed: dict[str, bytearray] = {"up": bytearray(), "down": bytearray()}
        # Called with the direction, the place of the bytes and the bytes.
        self.change: Any = None
        self._server: asyncio.Server | None = None
        self.writers: list[asyncio.StreamWriter] = []
        self.is_cut = False

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, listener: DirectListener) -> AsyncIterator["Relay"]:
        """Put a path before a listener, whose peers are told to take it."""
        relay = cls(listener.port)
        await relay.start()
        listener.port = relay.port
        try:
            yield relay
        finally:
            await relay.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self.cut()
        self._server.close()

    def cut(self) -> None:
        self.is_cut = True
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self.writers.append(up_writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                self._pass("up", reader, up_writer), self._pass("down", up_reader, writer)
            )
        writer.transport.abort()
        up_writer.transport.abort()

    async def _pass(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            room = self.passes[way] - len(self.passed[way])
            part = data[: int(min(room, len(data)))]
            if self.change is not None:
                part = self.change(way, len(self.passed[way]), part)
            self.passed[way] += data[: len(part)]
            writer.write(part)
            if len(part) < len(data) or room <= len(data):
                await writer.drain()
                self.cut()
                return
        writer.write_eof()
