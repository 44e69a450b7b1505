"""What a transaction that removes a bounded part of something tells of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """How much was removed, whether there may be more, and when it began (`time.monotonic`).

    The begin is taken in the database's thread, so that the wait for it does not count.
    """

    removed: int
    more: bool
    began: float
