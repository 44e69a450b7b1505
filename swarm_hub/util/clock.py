"""The hub's only source of time, so that tests can move it."""

import logging
import time
from datetime import UTC, datetime
from typing import Final

_LOGGER = logging.getLogger(__name__)

# A clock that is set anew by more than this has jumped; NTP moves it by less without notice.
JUMP_S: Final = 60.0
# What waits for a time believes a clock again when it has run this long since it jumped.
SETTLED_AFTER_S: Final = 3600.0
# Counts the time that a device slept, as CLOCK_MONOTONIC does not; only Linux has it.
_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """Wall time for records, steady time for what is signed, monotonic time for deadlines.

    All in seconds. A device may boot in 1970 and learn the time later, or be set wrong: wall time
    jumps then, the others do not.
    """

    def __init__(self) -> None:
        self._wall_at_boot = self.wall() - self.boottime()
        self._steady_at_boot = self._wall_at_boot
        self._jumped_at: float | None = None
        self._jump_s = 0.0

    def wall(self) -> float:
        """Return what the device's clock shows."""
        return time.time()

    def boottime(self) -> float:
        """Return the seconds since the device booted, asleep or awake."""
        return time.clock_gettime(_BOOTTIME)

    def time(self) -> float:
        """Return seconds since the epoch."""
        wall, boottime = self.wall(), self.boottime()
        jump_s = wall - boottime - self._wall_at_boot
        self._wall_at_boot += jump_s
        if abs(jump_s) > JUMP_S:
            self._jumped(jump_s)
        return wall

    def steady(self) -> float:
        """Return seconds since the epoch as the clock showed them when the hub started.

        Whatever the clock is set to meanwhile, this goes on: for times that are compared with each
        other while the hub runs.
        """
        return self._steady_at_boot + self.boottime()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        return time.monotonic()

    def has_seen(self, time_s: float) -> None:
        """Compare the clock with the newest time in the store, which can't be ahead of it."""
        if (ahead_s := time_s - self.time()) > JUMP_S:
            self._jumped(-ahead_s)

    @property
    def is_settled(self) -> bool:
        """Whether the clock may be believed as to what is over: it has not jumped for an hour."""
        if self._jumped_at is None:
            return True
        return self.boottime() - self._jumped_at >= SETTLED_AFTER_S

    def problem(self) -> str | None:
        """Say what is wrong with the clock, while nothing is removed because of it."""
        if self.is_settled:
            return None
        way = "forward" if self._jump_s > 0 else "backward"
        return (
            f"the clock jumped {way} by {abs(self._jump_s):.0f} s; nothing is removed for its age "
            "until it has run for an hour"
        )

    def _jumped(self, jump_s: float) -> None:
        self._jumped_at, self._jump_s = self.boottime(), jump_s
        _LOGGER.warning("The clock jumped by %.0f s", jump_s)


def isoformat(timestamp_s: float) -> str:
    """Render seconds since the epoch as an ISO 8601 time in UTC."""
    return datetime.fromtimestamp(timestamp_s, UTC).isoformat(timespec="milliseconds")
