"""One express connection after its proof: records in and out on the hub's loop, nothing else."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from swarm_hub.components.mesh.express.records import (
    LENGTH_BYTES,
    TAG_BYTES,
    BadRecord,
    Direction,
)
from swarm_hub.components.mesh.transports.base import Proof
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.framing import FrameError, decode_messages
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.metering import (
    CAREFUL_BYTES,
    FloodError,
    Meter,
    messages_in,
)
from swarm_hub.components.mesh.wire.send_queue import SendQueue
from swarm_hub.components.mesh.wire.traffic import TRAFFIC

_READ_BYTES: Final = 256 * 1024
# So much is sealed in one turn of the loop; the rest waits for the next one.
_WRITE_BYTES: Final = 256 * 1024
# The socket takes about as much by itself.
_UNSENT_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Owner:
    """Who hears of a connection.

    `broken(reason)` says that it is gone without a word of the peer, `closed()` that it is no
    longer used, `ended(reason)` that the peer has sent what no hub sends, and `flooded(reason)`
    that it sends too much. `boottime` counts seconds, those that the device slept included.
    """

    broken: Callable[[str], None]
    closed: Callable[[], None]
    ended: Callable[[str], None]
    flooded: Callable[[str], None]
    boottime: Callable[[], float]


class Link(asyncio.BufferedProtocol):
    """Sends what its session queues, as records, and hands over the messages of the peer's."""

    def __init__(
        self,
        session: FramedSession,
        proof: Proof,
        own_key: bytes,
        outgoing: Direction,
        incoming: Direction,
        meter: Meter,
        limits: TransportLimits,
        silent_s: float,
        owner: Owner,
    ) -> None:
        self.session = session
        # Whose word is what comes, and as whose key's word what goes counts.
        self.proof = proof
        self.own_key = own_key
        self._outgoing: Direction | None = outgoing
        self._incoming: Direction | None = incoming
        self._meter = meter
        self._limits = limits
        self._silent_s = silent_s
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outbox: SendQueue | None = None
        self._wakes = self._finishing = self._is_full = False
        self._stuck: asyncio.TimerHandle | None = None
        # Bytes of a record that is not complete yet.
        self._waiting = bytearray()
        self._reads_on = False
        self._is_pausing = False
        self._heard_at = owner.boottime()

    # What its session says

    def carry(self, outbox: SendQueue) -> None:
        """Send what is put into this queue."""
        self._outbox = outbox
        self.wake()

    def wake(self) -> None:
        """There is something in the outbox; what is put there in one turn goes together."""
        if not self._wakes:
            self._wakes = True
            self._loop.call_soon(self._woken)

    def flush(self) -> None:
        """Send what is in the outbox now, as far as the connection takes it."""
        outbox, outgoing, transport = self._outbox, self._outgoing, self._transport
        if outbox is None or outgoing is None or transport is None or self._is_full:
            return
        records: list[bytes] = []
        size = 0
        while size < _WRITE_BYTES and (body := outbox.next_body()) is not None:
            records.append(outgoing.seal(body))
            size += len(records[-1])
        if not records:
            if self._finishing:
                self._close()
            return
        TRAFFIC.direct_bytes += size
        transport.write(records[0] if len(records) == 1 else b"".join(records))
        if outbox.bulk_wanted:
            self.session.room_freed()
        if size >= _WRITE_BYTES or self._finishing:
            self.wake()

    def read_on(self) -> None:
        """Hand over what has come, and what comes from now on."""
        self._reads_on = True
        self._go_on()

    def finish(self) -> None:
        """Send the rest of the outbox and close."""
        self._finishing = True
        self.wake()

    def abort(self) -> None:
        """Drop the keys and the connection at once."""
        self._outgoing = self._incoming = None
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if self._transport is not None:
            self._transport.abort()

    # What asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; nothing is read before the session says so."""
        # uvloop's are of no common class.
        self._transport = made = cast(asyncio.Transport, transport)
        made.set_write_buffer_limits(high=_UNSENT_MAX_BYTES)
        if not self._reads_on:
            made.pause_reading()
        self.wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to: all connections share it, as what it has is used at once."""
        view = _shared_buffer()
        return view if self._is_ample() else view[:CAREFUL_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        TRAFFIC.direct_bytes += nbytes
        now = self._owner.boottime()
        if now - self._heard_at > self._silent_s:
            # The device has slept: the peer has given this session up, and what it said is stale.
            self._break("silent: missed its heartbeats")
            return
        self._heard_at = now
        received = _shared_buffer()[:nbytes]
        if self._waiting:
            self._waiting += received
            self._take_waiting()
        else:
            used = self._take(received)
            self._waiting += received[used:]

    def eof_received(self) -> bool:
        """Close as the peer does."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell its owner, unless it was aborted here."""
        self._transport = None
        if self._outgoing is not None:
            self._break("the express connection was lost")
        elif self._finishing:
            self._owner.closed()

    def pause_writing(self) -> None:
        """Leave the rest in the outbox, and don't wait for the peer forever."""
        self._is_full = True
        limit_s = self._limits.send_timeout_s
        reason = f"the peer has read nothing for {limit_s:.0f} s"
        self._stuck = self._loop.call_later(limit_s, functools.partial(self._break, reason))

    def resume_writing(self) -> None:
        """Go on with the outbox."""
        self._is_full = False
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self.wake()

    # Within

    def _woken(self) -> None:
        self._wakes = False
        self.flush()

    def _go_on(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and not self._is_pausing:
            transport.resume_reading()

    def _take_waiting(self) -> None:
        with memoryview(self._waiting) as view:
            used = self._take(view)
        if self._incoming is not None:
            del self._waiting[:used]

    def _take(self, view: memoryview) -> int:
        """Take the records that are complete; returns how many bytes they have."""
        at, size, incoming = 0, 0, self._incoming
        messages: list[Message] = []
        most = self._limits.max_frame_bytes + TAG_BYTES
        try:
            while incoming is not None and len(view) - at >= LENGTH_BYTES:
                head = bytes(view[at : at + LENGTH_BYTES])
                length = int.from_bytes(head, "big")
                if not TAG_BYTES <= length <= most:
                    # The length is not proven before the record is: anybody on the path may lie.
                    raise BadRecord(f"a record of {length} bytes; at most {most} are accepted")
                end = at + LENGTH_BYTES + length
                if len(view) < end:
                    break
                body = incoming.open(head, view[at + LENGTH_BYTES : end])
                self._charge(body, end - at)
                messages += decode_messages(body)
                # Credit counts as on the stream: a length and the body.
                size += LENGTH_BYTES + len(body)
                at = end
        except BadRecord as error:
            self._break(f"the peer sent {error}")
            return at
        except FrameError as error:
            self._hand_over(messages, size)
            self._owner.ended(f"the peer sent {error}")
            return at
        self._hand_over(messages, size)
        return at

    def _hand_over(self, messages: list[Message], size: int) -> None:
        if size and self._incoming is not None:
            self.session.received_express(messages, size, self.proof)

    def _charge(self, body: bytes, size: int) -> None:
        now = self._loop.time()
        self._meter.charge(messages_in(body[:5], len(body)), size, now)
        if self._is_pausing:
            return
        try:
            wait_s = self._meter.wait_s(now)
        except FloodError as error:
            self._pause(self._limits.flood_patience_s)
            self._owner.flooded(str(error))
            return
        if wait_s > 0:
            self._pause(wait_s)

    def _pause(self, wait_s: float) -> None:
        self._is_pausing = True
        if self._transport is not None and self._reads_on:
            self._transport.pause_reading()
        self._loop.call_later(wait_s, self._paused)

    def _paused(self) -> None:
        self._is_pausing = False
        if self._incoming is None:
            return
        now = self._loop.time()
        try:
            wait_s = self._meter.wait_s(now)
        except FloodError as error:
            self._owner.flooded(str(error))
            return
        if wait_s > 0:
            self._pause(wait_s)
        else:
            self._go_on()

    def _is_ample(self) -> bool:
        return self._meter.is_ample(self._loop.time())

    def _close(self) -> None:
        self._outgoing = self._incoming = None
        if self._transport is not None:
            self._transport.close()

    def _break(self, reason: str) -> None:
        if self._outgoing is not None:
            self.abort()
            self._owner.broken(reason)


@functools.cache
def _shared_buffer() -> memoryview:
    return memoryview(bytearray(_READ_BYTES))
