"""The hub's only source of time, so that tests can move it."""

import time
from datetime import UTC, datetime


class Clock:
    """Wall time for records and envelopes, monotonic time for deadlines; both in seconds."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        return time.monotonic()


def isoformat(timestamp_s: float) -> str:
    """Render seconds since the epoch as an ISO 8601 time in UTC."""
    return datetime.fromtimestamp(timestamp_s, UTC).isoformat(timespec="milliseconds")
