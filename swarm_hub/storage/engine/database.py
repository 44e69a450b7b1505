"""What the store needs of a database: transactions of plain functions, in threads of its own.

Work on the database is a function of a `Connection`, run whole in a thread: one hand-over to the
thread a transaction instead of one a statement (docs/adr/002-storage-threads.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from swarm_hub.exceptions import StoreDamagedError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a database takes on its disk; of that, what it could give back."""

    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a transaction that removes a bounded part of something tells of itself.

    How much was removed, whether there may be more, and when it began (`time.monotonic`). The begin
    is taken in the database's thread, so that the wait for it does not count.
    """

    removed: int
    more: bool
    began: float


class Database(Protocol):
    """SQLite for one hub, PostgreSQL for several gateways.

    Every call raises the StoreError that says what a caller can do: StoreFullError,
    StoreUnavailableError, StoreConflictError, StoreDamagedError.
    """

    shared: bool
    """Whether other hubs write to it too."""

    async def open(self) -> None:
        """Connect, and make or upgrade the schema."""

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one transaction; when this returns, it is on disk.

        `work` may be run again from the start where the database went away meanwhile.
        """

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a reading connection; it sees one consistent snapshot."""

    def next_seq(self, connection: Connection, last_known: int) -> int:
        """Return the number of the next event; inside `write`, so that none comes before it."""

    async def introduce(self, gateway: str) -> None:
        """Say whose writing connection this is, so that others can end it when that is gone."""

    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called on the loop when another hub may have written something."""

    def on_damage(self, damaged: Callable[[StoreDamagedError], None]) -> None:
        """Have `damaged` called on the loop when a call meets a damaged file."""

    async def check(self) -> None:
        """Check the file if that is still to be done; raises StoreDamagedError."""

    async def disk_use(self) -> DiskUse:
        """Return what the database takes on its disk."""

    async def give_back(self, pages: int) -> Chunk:
        """Give up to that many free pages back to the disk, where the database can do that."""

    async def close(self) -> None:
        """Close every connection."""
