"""How much one peer may send: bytes and messages are counted before anything is parsed.

A peer that sends more than it may is read more slowly, so that its own side fills up. One that
stays at its limit for `patience_s` floods on purpose: no honest hub is that fast.
"""

from dataclasses import dataclass
from typing import Final, Self

from swarm_hub.components.mesh.wire.framing import LENGTH_BYTES
from swarm_hub.components.mesh.wire.limits import MIB, TransportLimits
from swarm_hub.util.token_bucket import TokenBucket

# The longest array head that a frame can have.
_ARRAY_HEAD_BYTES: Final = 5
# From a peer near its limit less is read at once, so that it can't get far beyond.
CAREFUL_BYTES: Final = 16 * 1024
# How many meters of disconnected peers are kept; a meter at rest is like a new one.
_REMEMBERED_MAX: Final = 2048


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a peer may send: indefinitely at this rate, and at once a burst."""

    messages_per_s: float
    bytes_per_s: float
    # How many seconds' worth of the rate may come at once.
    burst_s: float = 1.0
    patience_s: float = 10.0

    @classmethod
    def of(cls, limits: TransportLimits) -> Self:
        """Return what a transport with these limits allows a peer's messages."""
        return cls(
            limits.max_messages_per_s, limits.max_bytes_per_s, patience_s=limits.flood_patience_s
        )


class FloodError(Exception):
    """A peer sends more than any honest hub could."""


class Meter:
    """What a peer has sent, over all its streams."""

    def __init__(self, allowance: Allowance, now: float) -> None:
        self.allowance = allowance
        self._messages = TokenBucket(allowance.messages_per_s, allowance.burst_s, now)
        self._bytes = TokenBucket(allowance.bytes_per_s, allowance.burst_s, now)
        self._over_since: float | None = None

    def charge(self, messages: int, size_bytes: int, now: float) -> None:
        """Count what was read."""
        self._messages.take(messages, now)
        self._bytes.take(size_bytes, now)

    def is_ample(self, now: float) -> bool:
        """Whether the peer is far from its limit."""
        return self._messages.is_ample(now) and self._bytes.is_ample(now)

    def wait_s(self, now: float) -> float:
        """Return how long to read nothing from the peer; raises FloodError when that is useless."""
        wait_s = max(self._messages.debt_s(now), self._bytes.debt_s(now), 0.0)
        if wait_s > 0 and self._over_since is None:
            self._over_since = now
        elif wait_s == 0 and self.is_ample(now):
            self._over_since = None
        since = self._over_since
        if since is not None and wait_s > 0 and now - since > self.allowance.patience_s:
            self._over_since = None
            raise FloodError(
                f"flooding: more than {self.allowance.messages_per_s:.0f} messages or "
                f"{self.allowance.bytes_per_s / 1e6:g} MB a second "
                f"for {self.allowance.patience_s:g} s"
            )
        return wait_s


class MeterTable:
    """A meter for each peer, which outlives its connections."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._meters: dict[str, Meter] = {}

    def of(self, peer_id: str, now: float) -> Meter:
        """Return the meter of a peer that has connected; `now` is monotonic seconds."""
        meter = self._meters.pop(peer_id, None)
        if meter is None:
            meter = Meter(self._allowance, now)
        # The last one used stands last.
        self._meters[peer_id] = meter
        if len(self._meters) > _REMEMBERED_MAX:
            del self._meters[next(iter(self._meters))]
        return meter


class FrameCounter:
    """Counts the messages of the frames that go by, from the heads of their arrays alone."""

    def __init__(self) -> None:
        self._length = bytearray()
        self._left = 0
        # The first bytes of a frame's body, until they are enough to tell how many messages it has.
        self._array: bytearray | None = None

    def __call__(self, received: bytes) -> int:
        """Return how many messages begin in these bytes."""
        at, messages = 0, 0
        while at < len(received):
            if not self._left:
                taken = received[at : at + LENGTH_BYTES - len(self._length)]
                self._length += taken
                if len(self._length) == LENGTH_BYTES:
                    self._left = int.from_bytes(self._length, "big")
                    self._length.clear()
                    self._array = bytearray()
            elif self._array is not None:
                wanted = min(_ARRAY_HEAD_BYTES - len(self._array), self._left)
                taken = received[at : at + wanted]
                self._array += taken
                self._left -= len(taken)
                if len(self._array) == _ARRAY_HEAD_BYTES or not self._left:
                    messages += messages_in(self._array, self._left + len(self._array))
                    self._array = None
            else:
                taken = received[at : at + self._left]
                self._left -= len(taken)
            at += len(taken)
        return messages


def messages_in(head: bytes | bytearray, body_bytes: int) -> int:
    """Return how many messages a frame's body of that size claims to have, by its first bytes.

    The decoder refuses anything else.
    """
    following = {0x98: 1, 0x99: 2, 0x9A: 4}.get(head[0])
    if following is not None:
        claimed = int.from_bytes(head[1 : 1 + following], "big")
    else:
        claimed = head[0] & 0x1F if 0x80 <= head[0] <= 0x97 else 1
    # A message takes at least four bytes and a frame has its limit, whatever the head says.
    return min(claimed, max(1, min(body_bytes, MIB) // 4))
