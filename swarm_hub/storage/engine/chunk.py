"""The report of a transaction that removes a bounded part of something."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """How much was removed, whether there may be more, and when it began (`time.monotonic`).

    The start is measured in the database's thread, so that waiting for that thread doesn't count.
    """

    removed: int
    more: bool
    began: float
