"""A rate with a burst: how long a taker has to wait who takes more than there is."""


class TokenBucket:
    """Fills at a rate up to a burst; may be overdrawn, which takes time to refill."""

    def __init__(self, per_s: float, burst_s: float, now: float) -> None:
        self._per_s = per_s
        self._most = per_s * burst_s
        self._level = self._most
        self._at = now

    def take(self, amount: float, now: float) -> None:
        """Take that much out, even more than there is."""
        self._level = min(self._most, self._level + (now - self._at) * self._per_s) - amount
        self._at = now

    def debt_s(self, now: float) -> float:
        """Return how long until nothing is owed; negative while there is something left."""
        return -self._level / self._per_s - (now - self._at)

    def is_ample(self, now: float) -> bool:
        """Whether at least half of the burst is there."""
        return self.debt_s(now) <= -self._most / self._per_s / 2
