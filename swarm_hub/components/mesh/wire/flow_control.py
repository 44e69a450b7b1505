"""How much bulk may be under way to a peer, so that what is urgent never waits behind it.

The receiver says with `credit` how many bytes it has taken. What was sent but not yet taken is
under way, wherever it waits: in a socket, on the air, in the peer's memory. The window for it
follows the delay, after LEDBAT (RFC 6817): it grows while a byte arrives sooner than `TARGET_S`
over the shortest delay seen, and shrinks in proportion beyond that.
"""

from collections import deque
from typing import Final

KIB: Final = 1024
# A receiver sends `credit` at the latest after this many bytes.
CREDIT_STEP_BYTES: Final = 32 * KIB
# Below this a link would idle between two credits.
WINDOW_MIN_BYTES: Final = 96 * KIB
# Less than a yamux window (1 MiB), so that control messages always find room in it.
WINDOW_MAX_BYTES: Final = 768 * KIB
TARGET_S: Final = 0.06
_FIRST_BYTES: Final = 256 * KIB
_BASE_KEPT_S: Final = 30.0
_STEP_BYTES: Final = 64 * KIB


class BulkWindow:
    """Counts what is under way to one peer; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._sent_bytes = 0
        self._taken_bytes = 0
        self._window_bytes = float(_FIRST_BYTES)
        self._starting = True
        # (total sent after a bulk message, and when that was)
        self._marks: deque[tuple[int, float]] = deque()
        self._base_s: deque[tuple[float, float]] = deque(maxlen=2)

    @property
    def under_way_bytes(self) -> int:
        """Bytes that were sent but that the peer has not taken yet."""
        return self._sent_bytes - self._taken_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether that much bulk may be sent now; the first message always may."""
        under_way = self.under_way_bytes
        return under_way < CREDIT_STEP_BYTES or under_way + size_bytes <= self._window_bytes

    def sent(self, size_bytes: int, now: float, *, bulk: bool) -> None:
        """A frame was handed to the connection; only bulk is timed."""
        self._sent_bytes += size_bytes
        if bulk:
            self._marks.append((self._sent_bytes, now))

    def credited(self, taken_bytes: int, now: float) -> None:
        """The peer has taken that many bytes in all; an impossible number is ignored."""
        taken_bytes = min(taken_bytes, self._sent_bytes)
        gained = taken_bytes - self._taken_bytes
        if gained <= 0:
            return
        self._taken_bytes = taken_bytes
        delay_s: float | None = None
        while self._marks and self._marks[0][0] <= taken_bytes:
            delay_s = now - self._marks.popleft()[1]
        if delay_s is not None:
            self._follow(delay_s - self._base(delay_s, now), gained)

    def _follow(self, queueing_s: float, gained: int) -> None:
        off_target = max(-1.0, (TARGET_S - queueing_s) / TARGET_S)
        if self._starting:
            # Double every round trip, and go back once when that was too much.
            self._starting = off_target > 0
            grown = self._window_bytes + gained if off_target > 0 else self._window_bytes / 2
        else:
            grown = self._window_bytes + _STEP_BYTES * off_target * gained / self._window_bytes
        self._window_bytes = min(max(grown, WINDOW_MIN_BYTES), WINDOW_MAX_BYTES)

    def _base(self, delay_s: float, now: float) -> float:
        """Return the shortest delay of the last 30 to 60 seconds, because routes change."""
        if not self._base_s or now - self._base_s[-1][0] > _BASE_KEPT_S:
            self._base_s.append((now, delay_s))
        elif delay_s < self._base_s[-1][1]:
            self._base_s[-1] = (self._base_s[-1][0], delay_s)
        return min(shortest for _, shortest in self._base_s)


class Credits:
    """The receiving side: counts what was taken and says when to tell the sender."""

    def __init__(self) -> None:
        self.taken_bytes = 0
        self._told_bytes = 0

    def take(self, size_bytes: int) -> int | None:
        """Count bytes; returns the total when it is time to send it."""
        self.taken_bytes += size_bytes
        if self.taken_bytes - self._told_bytes < CREDIT_STEP_BYTES:
            return None
        self._told_bytes = self.taken_bytes
        return self.taken_bytes
