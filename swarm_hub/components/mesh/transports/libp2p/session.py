"""One live session with a peer on the trio side: a task that reads and a task that writes."""

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from swarm_hub.components.mesh.transports.libp2p.arbitration import BYE, Generation
from swarm_hub.components.mesh.wire.framing import (
    FrameDecoder,
    FrameError,
    encode_frame,
    encode_message,
)
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.send_queue import SendQueue

READ_BYTES = 256 * 1024
MAX_REASON_LENGTH = 200
_BACKPRESSURE_POLL_S = 0.01


class Stream(Protocol):
    """The part of a libp2p stream that a session uses."""

    async def read(self, n: int | None = None) -> bytes:
        """Read up to n bytes; raises at the end of the stream."""

    async def write(self, data: bytes) -> None:
        """Write everything."""

    async def reset(self) -> None:
        """Close both directions at once."""


class Unread:
    """Counts what was handed to the asyncio side but not yet taken there.

    Each side writes only its own counter, so no lock is needed.
    """

    def __init__(self) -> None:
        self.handed_bytes = 0
        self.taken_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the asyncio side."""
        return self.handed_bytes - self.taken_bytes


class StreamSession:
    """A framed stream that both sides agreed on; the loop puts into its `outbox`."""

    def __init__(
        self,
        peer_id: str,
        address: str,
        stream: Stream,
        decoder: FrameDecoder,
        early: list[Message],
        generation: Generation,
        peer_boot: bytes,
        limits: TransportLimits,
    ) -> None:
        self.peer_id = peer_id
        self.address = address
        self.stream = stream
        self.generation = generation
        self.peer_boot = peer_boot
        self.outbox = SendQueue(peer_id, limits)
        self.unread = Unread()
        self.reason = "the connection was lost"
        self.ended = trio.Event()
        self._decoder = decoder
        self._early = early
        self._limits = limits
        self._scope = trio.CancelScope()
        self._wake = trio.Event()
        self._saying_bye = False

    async def run(
        self,
        deliver: Callable[["StreamSession", Sequence[Message], int], None],
        room_freed: Callable[["StreamSession"], None],
    ) -> None:
        """Read and write until the session ends; `reason` then says why."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_loop, room_freed)
                await self._read_loop(deliver)
                nursery.cancel_scope.cancel()

    def cut(self, reason: str) -> None:
        """End the session at once."""
        if not self._scope.cancel_called:
            self.reason = reason
            self._scope.cancel()

    def end(self, reason: str) -> None:
        """End the session after the control messages that wait and a `bye` to the peer."""
        if self._saying_bye or self._scope.cancel_called:
            return
        self.reason = reason
        self._saying_bye = True
        self.outbox.discard_bulk()
        # A peer that reads nothing must not delay the end.
        self._scope.deadline = trio.current_time() + self._limits.disconnect_timeout_s / 2
        self._wake.set()

    def wake_writer(self) -> None:
        """There is something in the outbox."""
        self._wake.set()

    async def _read_loop(
        self, deliver: Callable[["StreamSession", Sequence[Message], int], None]
    ) -> None:
        unread, limit = self.unread, self._limits.max_queue_bytes
        # Bytes of a message that is not complete yet are handed over, and credited, with it.
        messages, arrived_bytes = self._early, 0
        while True:
            said_bye = _take_bye(messages)
            if messages:
                unread.handed_bytes += arrived_bytes
                deliver(self, messages, arrived_bytes)
                arrived_bytes = 0
            if said_bye is not None:
                self._explain(said_bye)
                return
            # The counter is moved by the asyncio thread, which a trio event can't wait for.
            while unread.waiting_bytes > limit:  # noqa: ASYNC110
                await trio.sleep(_BACKPRESSURE_POLL_S)
            try:
                received = await self.stream.read(READ_BYTES)
            # Whatever the library raises here means that the connection is of no use any more;
            # it has over ten exception types for that.
            except Exception:
                return
            if not received:
                return
            arrived_bytes += len(received)
            try:
                messages = self._decoder.feed(received)
            except FrameError as error:
                self._explain(f"the peer sent {error}")
                return

    def _explain(self, reason: str) -> None:
        if not self._saying_bye:
            self.reason = reason

    async def _write_loop(self, room_freed: Callable[["StreamSession"], None]) -> None:
        while True:
            frame = self.outbox.next_frame()
            if frame is None and self._saying_bye:
                await self._write(encode_frame((encode_message(BYE, {"reason": self.reason}),)))
                # The peer closes when it has read this; closing first would discard it there.
                await trio.sleep_forever()
            if frame is None:
                self._wake = trio.Event()
                # Something may have been queued between the check and the new event.
                frame = self.outbox.next_frame()
            if frame is None:
                await self._wake.wait()
                continue
            await self._write(frame)
            room_freed(self)
            if self.outbox.queued_bytes:
                # A write that never has to wait would let no other task run.
                await trio.lowlevel.checkpoint()

    async def _write(self, frame: bytes) -> None:
        try:
            with trio.fail_after(self._limits.send_timeout_s):
                await self.stream.write(frame)
        except trio.TooSlowError:
            self.cut(f"the peer has read nothing for {self._limits.send_timeout_s:.0f} s")
        # As for reading: whatever it is, the connection is of no use any more.
        except Exception:
            self.cut(self.reason)


def _take_bye(messages: list[Message]) -> str | None:
    """Remove a final `bye` and return the reason that it gives."""
    if not messages or messages[-1][0] != BYE:
        return None
    reason = messages.pop()[1].get("reason", "")
    text = "".join(filter(str.isprintable, reason)) if isinstance(reason, str) else ""
    return f"the peer said: {text[:MAX_REASON_LENGTH]}"
