"""What the sessions of every transport have in common: queue, credit, questions and replies."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm_hub.components.mesh.transports.base import PeerGone, TransportEvents
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.requests import REPLY, REQUEST_TIMEOUT_S, Requests
from swarm_hub.components.mesh.wire.send_queue import SendQueue

CREDIT: Final = "credit"
_OWN: Final = frozenset({CREDIT, REPLY})


class FramedSession(ABC):
    """A `Session` on the hub's loop; what carries it takes the frames out of `outbox`.

    A transport adds `_wake` and `close`, and calls `received`, `room_freed` and `over`. The
    outbox may be emptied by another thread; all else belongs to the loop.
    """

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
        self.outbox = outbox
        self.is_over = False
        self._requests = requests
        self._events = events
        self._room = asyncio.Event()

    @abstractmethod
    def _wake(self) -> None:
        """Tell the carrier that there is something in the outbox."""

    @abstractmethod
    async def close(self, reason: str) -> None:
        """End the session; the peer is told the reason if it still listens."""

    def send(self, message: bytes) -> None:
        """Queue a control message."""
        if self.is_over:
            raise PeerGone(f"peer {self.peer_id} is not connected")
        self.outbox.put_control(message)
        self._wake()

    async def send_bulk(self, message: bytes) -> None:
        """Queue a bulk message as soon as there is room."""
        if self.is_over:
            raise PeerGone(f"peer {self.peer_id} is not connected")
        outbox = self.outbox
        while not outbox.try_put_bulk(message):
            self._room.clear()
            outbox.bulk_wanted = True
            # There may have been room before anyone asked for it.
            if not outbox.has_bulk_room(message):
                await self._room.wait()
            if self.is_over:
                raise PeerGone(f"peer {self.peer_id} is gone")
        self._wake()

    async def request(
        self, kind: str, fields: Mapping[str, Any], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> Mapping[str, Any]:
        """Send a question and wait for the reply."""
        return await self._requests.request(self, kind, fields, timeout_s)

    def received(self, messages: Sequence[Message], size_bytes: int) -> None:
        """Take a burst of `size_bytes`: credit and replies here, the others to the mesh."""
        outbox = self.outbox
        if (taken_bytes := outbox.credits.take(size_bytes)) is not None:
            outbox.put_control(encode_message(CREDIT, {"taken": taken_bytes}), own=True)
            self._wake()
        if not any(kind in _OWN for kind, _ in messages):
            if messages:
                self._events.received(self, messages)
            return
        others = []
        for message in messages:
            kind, fields = message
            if kind == CREDIT:
                if outbox.credited(fields.get("taken")):
                    self._wake()
            elif kind == REPLY:
                self._requests.reply(self.peer_id, fields)
            else:
                others.append(message)
        if others:
            self._events.received(self, others)

    def room_freed(self) -> None:
        """A frame was sent, and somebody may be waiting to send bulk."""
        self.outbox.bulk_wanted = False
        self._room.set()

    def over(self, reason: str) -> None:
        """Fail whoever waits for something from this session; nothing is sent from here on."""
        self.is_over = True
        self._room.set()
        self._requests.session_over(self, reason)
