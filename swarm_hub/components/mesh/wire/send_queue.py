"""The two queues of one peer: what the hub's thread puts in, the sending side takes out.

A session may have two pairs of them, one for each plane; what was sent and credited is counted over
both.
"""

import threading
import time
from collections import deque

from swarm_hub.components.mesh.wire.flow_control import BulkWindow, Credits
from swarm_hub.components.mesh.wire.framing import (
    COALESCE_BYTES,
    LENGTH_BYTES,
    frame_overhead_bytes,
    join_messages,
)
from swarm_hub.components.mesh.wire.limits import QueueFull, TransportLimits
from swarm_hub.exceptions import MeshError


class SendQueue:
    """Control messages first, together in one frame; then bulk messages, one per frame.

    Bulk leaves only as the peer's credit lets it, and fills at most half of the room: a control
    message that no longer fits is an error. One thread puts and another takes, so each operation
    holds a lock for a moment.
    """

    def __init__(
        self, peer_id: str, limits: TransportLimits, beside: "SendQueue | None" = None
    ) -> None:
        self.peer_id = peer_id
        self._limits = limits
        self._lock: threading.Lock = threading.Lock() if beside is None else beside._lock
        self._control: deque[bytes] = deque()
        self._bulk: deque[bytes] = deque()
        self._control_bytes = 0
        self._bulk_bytes = 0
        self._window: BulkWindow = BulkWindow() if beside is None else beside._window
        # Counts what arrives from the same peer, for which it is given credit.
        self.credits: Credits = Credits() if beside is None else beside.credits
        # Set while somebody waits for room, so that the sending side knows whom to wake.
        self.bulk_wanted = False

    def beside(self) -> "SendQueue":
        """Return an empty queue to the same peer, by another way."""
        return SendQueue(self.peer_id, self._limits, self)

    def move_to(self, other: "SendQueue", last: bytes) -> None:
        """End with the control messages that wait and `last`; the bulk goes the other way."""
        with self._lock:
            self._control.append(last)
            self._control_bytes += len(last)
            other._bulk.extend(self._bulk)
            other._bulk_bytes += self._bulk_bytes
            self._bulk.clear()
            self._bulk_bytes = 0

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait in both queues."""
        return self._control_bytes + self._bulk_bytes

    def put_control(self, message: bytes, *, own: bool = False) -> None:
        """Queue a control message; raises `QueueFull`, except for the transport's `own` few."""
        largest = self._limits.max_frame_bytes - frame_overhead_bytes(1)
        if len(message) > largest:
            raise MeshError(f"a message of {len(message)} bytes; at most {largest} fit a frame")
        with self._lock:
            if not own and self.queued_bytes + len(message) > self._limits.max_queue_bytes:
                raise QueueFull(
                    f"peer {self.peer_id} reads too slowly: {self.queued_bytes} bytes wait"
                )
            self._control.append(message)
            self._control_bytes += len(message)

    def try_put_bulk(self, message: bytes) -> bool:
        """Queue a bulk message if there is room for it."""
        largest = self._limits.max_bulk_message_bytes
        if len(message) > largest:
            raise MeshError(f"a bulk message of {len(message)} bytes; at most {largest} are sent")
        with self._lock:
            # The first message always has room, whatever the limits are.
            if not self.has_bulk_room(message):
                return False
            self._bulk.append(message)
            self._bulk_bytes += len(message)
            return True

    def has_bulk_room(self, message: bytes) -> bool:
        """Whether `try_put_bulk` would take this message now."""
        return (
            not self._bulk or self._bulk_bytes + len(message) <= self._limits.max_queue_bytes // 2
        )

    def next_frame(self) -> bytes | None:
        """Take the next frame to send: its length, and the body of `next_body`."""
        body = self.next_body()
        return None if body is None else len(body).to_bytes(LENGTH_BYTES, "big") + body

    def next_body(self) -> bytes | None:
        """Take what to send next: waiting control messages, else one bulk message."""
        with self._lock:
            if self._control:
                body = join_messages(self._take_control())
                self._window.sent(LENGTH_BYTES + len(body), 0.0, bulk=False)
                return body
            if self._bulk and self._window.has_room(len(self._bulk[0])):
                message = self._bulk.popleft()
                self._bulk_bytes -= len(message)
                body = join_messages((message,))
                self._window.sent(LENGTH_BYTES + len(body), time.monotonic(), bulk=True)
                return body
            return None

    def credited(self, taken_bytes: object) -> bool:
        """Note the peer's `credit`; returns whether bulk waits that it may have freed."""
        if not isinstance(taken_bytes, int):
            return False
        with self._lock:
            self._window.credited(taken_bytes, time.monotonic())
            return bool(self._bulk)

    def discard_bulk(self) -> None:
        """Forget the bulk messages that wait."""
        with self._lock:
            self._bulk.clear()
            self._bulk_bytes = 0

    def _take_control(self) -> list[bytes]:
        taken = [self._control.popleft()]
        total = len(taken[0])
        while self._control and total + len(self._control[0]) <= COALESCE_BYTES:
            taken.append(self._control.popleft())
            total += len(taken[-1])
        self._control_bytes -= total
        return taken
