"""Transports of every kind with what they have told so far, for whoever tests one of them."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.transports.base import Proof, Session, Transport
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.mesh.transports.loopback import LoopbackNetwork, LoopbackTransport
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from tests.conftest import until
from tests.helpers.plain_transport import PlainTransport

DEADLINE_S = 15.0
SHA = "5" * 64
QUICK = TransportLimits(spare_connection_s=0.2, dial_timeout_s=8.0)


class Side:
    """A started transport and everything it has told so far."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.events: list[tuple[str, ...]] = []
        self.bursts: list[tuple[str, list[Message]]] = []
        self.gossip: list[tuple[str, str, bytes]] = []
        self.failure: str | None = None
        self.floods: list[str] = []
        self.on_message: Callable[[str, Message], None] | None = None
        # The newest session with each peer, also when it has ended.
        self.sessions: dict[str, Session] = {}
        self._changed = asyncio.Event()

    @property
    def peer_id(self) -> str:
        return self.transport.peer_id

    @property
    def address(self) -> str:
        return self.transport.addresses()[0]

    def messages(self, kind: str | None = None) -> list[Message]:
        return [m for _, burst in self.bursts for m in burst if kind in (None, m[0])]

    def reasons(self) -> list[str]:
        return [event[2] for event in self.events if event[0] == "down"]

    def live(self) -> set[str]:
        live: set[str] = set()
        for kind, peer_id, *_ in self.events:
            (live.add if kind == "up" else live.discard)(peer_id)
        return live

    async def until(self, condition: Callable[[], Any], what: str = "the condition") -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 0.05)
        except TimeoutError:
            pytest.fail(f"{what} did not come about; events so far: {self.events}")

    def send(self, peer_id: str, message: bytes) -> None:
        self.sessions[peer_id].send(message)

    async def send_bulk(self, peer_id: str, message: bytes) -> None:
        await self.sessions[peer_id].send_bulk(message)

    async def request(
        self, peer_id: str, kind: str, fields: Mapping[str, Any], timeout_s: float = 10.0
    ) -> Mapping[str, Any]:
        return await self.sessions[peer_id].request(kind, fields, timeout_s)

    async def disconnect(self, peer_id: str, reason: str) -> None:
        await self.sessions[peer_id].close(reason)

    def peer_up(self, session: Session) -> None:
        assert session.peer_id not in self.live(), "one session a peer"
        self.sessions[session.peer_id] = session
        self.events.append(("up", session.peer_id, session.address))
        self._changed.set()

    def peer_down(self, session: Session, reason: str) -> None:
        assert self.sessions[session.peer_id] is session
        self.events.append(("down", session.peer_id, reason))
        self._changed.set()

    def received(
        self, session: Session, messages: Sequence[Message], proof: Proof | None = None
    ) -> None:
        assert self.sessions[session.peer_id] is session
        self.bursts.append((session.peer_id, list(messages)))
        for message in messages:
            if self.on_message is not None:
                self.on_message(session.peer_id, message)
        self._changed.set()

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None:
        self.gossip.append((peer_id, topic, payload))
        self._changed.set()

    def discovered(self, peer_id: str, addresses: Sequence[str]) -> None:
        self.events.append(("seen", peer_id, *addresses))

    def flooded(self, peer_id: str, reason: str) -> None:
        self.floods.append(peer_id)
        self._changed.set()

    def failed(self, reason: str) -> None:
        self.failure = reason
        self._changed.set()


Make = Callable[..., Awaitable[Side]]


class Factory:
    """Starts transports of one kind and stops them all at the end."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.network = LoopbackNetwork()
        self.sides: list[Side] = []

    def transport(self, seed: bytes, limits: TransportLimits, content: bool = False) -> Transport:
        if self.kind == "plain":
            return PlainTransport(peer_id_from_seed(seed), limits, Requests())
        if self.kind == "loopback":
            peer_id = peer_id_from_seed(seed)
            return LoopbackTransport(peer_id, self.network, limits=limits, content=content)
        listen = ["/ip4/127.0.0.1/tcp/0"]
        return Libp2pTransport(seed, listen=listen, limits=limits, content=content)

    async def __call__(
        self,
        seed: bytes | None = None,
        limits: TransportLimits = QUICK,
        content: bool = False,
    ) -> Side:
        side = Side(self.transport(seed or os.urandom(32), limits, content))
        await side.transport.start(side)
        self.sides.append(side)
        return side


async def run_factory(kind: str) -> AsyncIterator[Factory]:
    threads = set(threading.enumerate())
    factory = Factory(kind)
    yield factory
    for side in factory.sides:
        await side.transport.stop()
    left = {one.name for one in set(threading.enumerate()) - threads}
    # The loop's own executor, which resolves names, ends with the loop.
    assert not {name for name in left if not name.startswith("asyncio_")}


async def connected(make: Make, **kwargs: Any) -> tuple[Side, Side]:
    """Two sides with a session; the second one dialled."""
    a, b = await make(**kwargs), await make(**kwargs)
    assert await b.transport.dial(a.address) == a.peer_id
    await a.until(lambda: b.peer_id in a.live(), "the session")
    await b.until(lambda: a.peer_id in b.live(), "the session")
    return a, b


def numbered(kind: str, number: int, size: int = 0) -> bytes:
    return encode_message(kind, {"n": number, "body": b"x" * size})


async def found(side: Side, sha: str = SHA) -> list[str]:
    return [provider.peer_id for provider in await side.transport.find_providers(sha)]


async def until_found(side: Side, wanted: Sequence[str], sha: str = SHA) -> None:
    await until(lambda: found(side, sha), lambda those: sorted(those) == sorted(wanted))
