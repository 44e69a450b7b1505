"""How much to remove in one transaction, learnt from how long the last one took."""

from typing import Final

# Now and then a commit has a checkpoint of SQLite's log to do, which takes another 20 to 40 ms.
_TARGET_S: Final = 0.015
_GROWTH_MAX: Final = 1.5


class Pace:
    """A size that follows what the disk can do; a slow one makes it small at once."""

    def __init__(self, first: int, low: int, high: int) -> None:
        self.size = first
        self.longest_s = 0.0
        self._low = low
        self._high = high

    def learn(self, removed: int, took_s: float) -> None:
        """Note how many a transaction removed and how long it took."""
        self.longest_s = max(self.longest_s, took_s)
        fitting = self.size * min(_GROWTH_MAX, _TARGET_S / max(took_s, 1e-6))
        # A transaction that had little to remove tells nothing about a larger one.
        if fitting < self.size or removed >= self.size:
            self.size = max(self._low, min(self._high, int(fitting)))
