"""The ways of one session: the stream of its transport, and an express connection beside it.

Each direction moves to the express connection and back by itself. The last control message on the
old way is a marker, `plane`, and what comes on the new way waits until the marker was read. So the
messages of a direction stay in order, and none is sent twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.send_queue import SendQueue

PLANE: Final = "plane"
EXPRESS: Final = "express"
STREAM: Final = "stream"
_TO_EXPRESS: Final = encode_message(PLANE, {"to": EXPRESS})
_TO_STREAM: Final = encode_message(PLANE, {"to": STREAM})
# A peer that returns to its stream says little there before its marker has arrived.
_HELD_MAX_BYTES: Final = 1024 * 1024
# What the smallest message takes of memory, as far as that is more than its bytes.
_MESSAGE_BYTES: Final = 200

# What came in one go: messages, and how many bytes they took.
Burst = tuple[Sequence[Message], int]


class ExpressLink(Protocol):
    """A connection whose other end is proven; it sends what is in its outbox."""

    def carry(self, outbox: SendQueue) -> None:
        """Send what is put into this queue, and let it be known when there is room again."""

    def wake(self) -> None:
        """There is something in the outbox."""

    def flush(self) -> None:
        """Send what is in the outbox in this turn of the loop."""

    def read_on(self) -> None:
        """Hand over what has come, and what comes from now on."""

    def finish(self) -> None:
        """Send the rest of the outbox and close."""

    def abort(self) -> None:
        """Drop the keys and the connection at once."""


class Planes:
    """Which way each direction of a session takes."""

    def __init__(self, outbox: SendQueue, wake_stream: Callable[[], None]) -> None:
        # What is to be sent is put here, whatever carries it.
        self.outbox = outbox
        self.link: ExpressLink | None = None
        # Whether each direction goes over the express connection.
        self.sends_express = self.reads_express = False
        # Set while neither does.
        self.on_stream = asyncio.Event()
        self.on_stream.set()
        self._stream_outbox = outbox
        self._wake_stream = wake_stream
        # Whether to send over the express connection once something has come over it.
        self._answers = False
        # Whether each direction has gone over it: who goes over is followed.
        self._was_sent = self._was_read = False
        # Whether the connection has broken before anything went over it.
        self._is_broken = False
        self._lost: Callable[[str], None] | None = None
        self._held: list[Burst] = []
        self._held_bytes = 0

    @property
    def is_in_use(self) -> bool:
        """Whether messages may be lost with the express connection."""
        return self.sends_express or self.reads_express

    def wake(self) -> None:
        """There is something in the outbox."""
        if self.sends_express and self.link is not None:
            self.link.wake()
        else:
            self._wake_stream()

    def attach(self, link: ExpressLink, lost: Callable[[str], None], *, answers: bool) -> None:
        """Use a connection: at once, or with `answers` as soon as the peer does.

        `lost(reason)` is called when it is lost with messages in it, so that the session can't go
        on.
        """
        self.link, self._lost, self._answers, self._is_broken = link, lost, answers, False
        self._was_sent, self._was_read = False, self.reads_express
        self.on_stream.clear()
        if self.reads_express:
            # The peer's marker was quicker.
            link.read_on()
        if not answers:
            self._send_express()

    def broken(self, link: ExpressLink, reason: str) -> bool:
        """Note that a connection is gone; returns whether the session can go on without it."""
        if self.link is not link:
            return True
        self.link = None
        if self.is_in_use:
            # What was on its way in it is lost.
            self._give_up(reason)
            return False
        self._is_broken = True
        self.on_stream.set()
        return True

    def drop(self) -> None:
        """Give up the connection at once, with what it has not delivered."""
        link, self.link, self._lost = self.link, None, None
        self.on_stream.set()
        if link is not None:
            link.abort()

    def leave(self) -> None:
        """Return to the stream; `on_stream` is set once the peer has as well."""
        if self.link is None or (self._was_sent and not self.sends_express):
            return
        if not self.sends_express:
            # The marker has to come on the connection that is left.
            self._send_express()
        self._send_on_stream()

    def hold(self, burst: Burst) -> bool:
        """Keep what came on the stream if it has to wait; returns whether it has."""
        if not self.reads_express:
            return False
        self._held_bytes += burst[1] + _MESSAGE_BYTES * len(burst[0])
        if self._held_bytes <= _HELD_MAX_BYTES:
            self._held.append(burst)
        else:
            # No hub says that much there; one that is silent otherwise is let go for that.
            self._give_up("it went on with the stream that it had left")
        return True

    def heard_express(self) -> None:
        """Note that something came over the express connection."""
        if self._answers:
            self._send_express()

    def moved(self, to: object) -> list[Burst]:
        """Follow the peer's marker; returns what has come on the stream meanwhile."""
        if to == EXPRESS and not self.reads_express:
            self.reads_express = self._was_read = True
            if self.link is not None:
                self.link.read_on()
            elif self._is_broken:
                self._give_up("the express connection was lost")
        elif to == STREAM and self.reads_express:
            self.reads_express = False
            if self.sends_express:
                self._send_on_stream()
            else:
                self._settle()
            held, self._held, self._held_bytes = self._held, [], 0
            return held
        return []

    def _send_express(self) -> None:
        assert self.link is not None
        self._answers = False
        self.sends_express = self._was_sent = True
        self.outbox = self._stream_outbox.beside()
        self._stream_outbox.move_to(self.outbox, _TO_EXPRESS)
        self._wake_stream()
        self.link.carry(self.outbox)

    def _send_on_stream(self) -> None:
        assert self.link is not None
        self._answers = self.sends_express = False
        self.outbox.move_to(self._stream_outbox, _TO_STREAM)
        self.outbox = self._stream_outbox
        self.link.wake()
        self._wake_stream()
        self._settle()

    def _settle(self) -> None:
        """Close the connection once both directions have gone over it and are back."""
        if self.link is not None and self._was_read and not self.reads_express:
            self.link.finish()
            self.link = None
            self.on_stream.set()

    def _give_up(self, reason: str) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(reason)
