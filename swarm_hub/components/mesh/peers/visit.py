"""A visit: greet one peer, stay until it has admitted us or refused, and leave again."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.peers.peer import PROTOCOL_VERSIONS
from swarm_hub.components.mesh.transports.base import (
    Proof,
    Session,
    Transport,
    TransportOptions,
)
from swarm_hub.components.mesh.transports.registry import Transports
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.exceptions import MeshError, NotAdmittedError, UnreachablePeerError
from swarm_hub.util.within import within

_BEAT_EVERY_S: Final = 1.0


class NoAnswerError(UnreachablePeerError):
    """The peer was greeted and did not say what it decided: it may have admitted us."""


async def visit(
    seed: bytes,
    addresses: Sequence[str],
    hello: Mapping[str, Any],
    *,
    decided_within_s: float,
    goodbye: str,
) -> None:
    """Return once the peer at one of these addresses has admitted who says this hello.

    A peer answers heartbeats of those alone that it has admitted, so its first echo tells it.
    Raises UnreachablePeerError, NotAdmittedError with the peer's words, and NoAnswerError.
    """
    peer_id = peer_id_from_seed(seed)
    options = TransportOptions(seed, peer_id, (), False, TransportLimits(), (), Requests())
    transport = Transports("libp2p", options)["libp2p"]
    visitor = _Visitor(hello)
    await transport.start(visitor)
    try:
        session = await _reach(transport, addresses, visitor)
        asked_for_s = 0.0
        # Again and again, as the peer holds only so much before it decides.
        while not visitor.is_over.is_set() and asked_for_s < decided_within_s:
            visitor.ask(session)
            await within(_BEAT_EVERY_S, visitor.is_over.wait())
            asked_for_s += _BEAT_EVERY_S
        visitor.raise_unless_admitted()
        await session.close(goodbye)
    finally:
        await transport.stop()


async def _reach(transport: Transport, addresses: Sequence[str], visitor: "_Visitor") -> Session:
    problems = []
    for address in addresses:
        try:
            await transport.dial(address)
        except MeshError as error:
            problems.append(f"{address.partition('/p2p/')[0]}: {error}")
        else:
            assert visitor.session is not None
            return visitor.session
    raise UnreachablePeerError("\n".join(problems))


class _Visitor:
    """Hears what a transport tells: whether the heartbeat came back, or why the session ended."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._hello = {"versions": list(PROTOCOL_VERSIONS), **hello}
        self.session: Session | None = None
        self.is_over = asyncio.Event()
        self._admitted = False
        self._reason = ""

    def raise_unless_admitted(self) -> None:
        if self._admitted:
            return
        said = self._reason.removeprefix("the peer said: ")
        if said != self._reason:
            raise NotAdmittedError(said)
        raise NoAnswerError(self._reason or "it was greeted, and has said nothing since")

    def ask(self, session: Session) -> None:
        if not self.is_over.is_set():
            session.send(encode_message("heartbeat", {"t": time.monotonic()}))

    def peer_up(self, session: Session) -> None:
        self.session = session
        session.send(encode_message("hello", self._hello))

    def peer_down(self, session: Session, reason: str) -> None:
        self._end(reason)

    def received(
        self, session: Session, messages: Sequence[Message], proof: Proof | None = None
    ) -> None:
        if any(kind == "heartbeat" and "echo" in fields for kind, fields in messages):
            self._admitted = True
            self.is_over.set()

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None:
        """Nothing here is for a visitor."""

    def discovered(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Nobody else is visited."""

    def flooded(self, peer_id: str, reason: str) -> None:
        self._end(reason)

    def failed(self, reason: str) -> None:
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self.is_over.is_set():
            self._reason = reason
            self.is_over.set()
