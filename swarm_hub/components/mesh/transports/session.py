"""What the sessions of every transport have in common: queue, credit, questions and replies."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm_hub.components.mesh.transports.base import PeerGone, Proof, TransportEvents
from swarm_hub.components.mesh.transports.planes import PLANE, Planes
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.requests import REPLY, REQUEST_TIMEOUT_S, Requests
from swarm_hub.components.mesh.wire.send_queue import SendQueue

CREDIT: Final = "credit"
_OWN: Final = frozenset({CREDIT, REPLY, PLANE})


class FramedSession(ABC):
    """A `Session` on the hub's loop; what carries it takes the frames out of an outbox.

    A transport adds `_wake` and `close`, and calls `received`, `room_freed` and `over`. The
    outbox may be emptied by another thread; all else belongs to the loop.
    """

    # The run of the side that numbers sessions, and the number of this one; None: there are none.
    generation: tuple[bytes, int] | None = None

    def __init__(
        self,
        peer_id: str,
        address: str,
        outbox: SendQueue,
        requests: Requests,
        events: TransportEvents,
    ) -> None:
        self.peer_id = peer_id
        self.address = address
        self.planes = Planes(outbox, self._wake)
        self.is_over = False
        self._requests = requests
        self._events = events
        self._room = asyncio.Event()

    @property
    def outbox(self) -> SendQueue:
        """Where what is to be sent waits."""
        return self.planes.outbox

    @property
    def is_express(self) -> bool:
        """Whether what is sent goes over an express connection."""
        return self.planes.sends_express and self.planes.link is not None

    @abstractmethod
    def _wake(self) -> None:
        """Tell the carrier of the stream that there is something in its outbox."""

    @abstractmethod
    async def close(self, reason: str) -> None:
        """End the session; the peer is told the reason if it still listens."""

    def send(self, message: bytes) -> None:
        """Queue a control message."""
        if self.is_over:
            raise PeerGone(f"peer {self.peer_id} is not connected")
        self.outbox.put_control(message)
        self.planes.wake()

    def send_proven(self, messages: Sequence[bytes]) -> None:
        """Send in this turn of the loop what counts because of the connection it goes over.

        Raises `PeerGone` without an express connection, and `QueueFull`.
        """
        link = self.planes.link
        if self.is_over or link is None or not self.planes.sends_express:
            raise PeerGone(f"there is no express connection with peer {self.peer_id}")
        for message in messages:
            self.outbox.put_control(message)
        link.flush()

    async def send_bulk(self, message: bytes) -> None:
        """Queue a bulk message as soon as there is room."""
        if self.is_over:
            raise PeerGone(f"peer {self.peer_id} is not connected")
        # It may be another outbox after each wait.
        while not self.outbox.try_put_bulk(message):
            self._room.clear()
            self.outbox.bulk_wanted = True
            # There may have been room before anyone asked for it.
            if not self.outbox.has_bulk_room(message):
                await self._room.wait()
            if self.is_over:
                raise PeerGone(f"peer {self.peer_id} is gone")
        self.planes.wake()

    async def request(
        self, kind: str, fields: Mapping[str, Any], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> Mapping[str, Any]:
        """Send a question and wait for the reply."""
        return await self._requests.request(self, kind, fields, timeout_s)

    def received(self, messages: Sequence[Message], size_bytes: int) -> None:
        """Take a burst of `size_bytes` that came on the stream."""
        if not self.planes.hold((messages, size_bytes)):
            self._take(messages, size_bytes, None)

    def received_express(self, messages: Sequence[Message], size_bytes: int, proof: Proof) -> None:
        """Take a burst of `size_bytes` from the express connection, whose other end is proven."""
        self.planes.heard_express()
        self._take(messages, size_bytes, proof)

    def _take(self, messages: Sequence[Message], size_bytes: int, proof: Proof | None) -> None:
        """Take a burst: credit, replies and markers here, the others to the mesh."""
        outbox = self.outbox
        if (taken_bytes := outbox.credits.take(size_bytes)) is not None:
            outbox.put_control(encode_message(CREDIT, {"taken": taken_bytes}), own=True)
            self.planes.wake()
        if not any(kind in _OWN for kind, _ in messages):
            if messages:
                self._events.received(self, messages, proof)
            return
        others: list[Message] = []
        for at, message in enumerate(messages):
            kind, fields = message
            if kind == CREDIT:
                if outbox.credited(fields.get("taken")):
                    self.planes.wake()
            elif kind == REPLY:
                self._requests.reply(self.peer_id, fields)
            elif kind == PLANE:
                if others:
                    self._events.received(self, others, proof)
                    others = []
                for held in self.planes.moved(fields.get("to")):
                    self.received(*held)
                # What stands behind it on the stream may have to wait.
                if proof is None and self.planes.hold((messages[at + 1 :], 0)):
                    return
            else:
                others.append(message)
        if others:
            self._events.received(self, others, proof)

    def room_freed(self) -> None:
        """A frame was sent, and somebody may be waiting to send bulk."""
        self.outbox.bulk_wanted = False
        self._room.set()

    def over(self, reason: str) -> None:
        """Fail whoever waits for something from this session; nothing is sent from here on."""
        self.is_over = True
        self.planes.drop()
        self._room.set()
        self._requests.session_over(self, reason)
