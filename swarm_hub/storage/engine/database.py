"""What the store needs from a database: transactions of plain functions, in threads of its own.

Work on the database is a function of a `Connection`, run whole in a thread: one hand-over to the
thread per transaction instead of per statement (docs/adr/002-storage-threads.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy import Connection

from swarm_hub.exceptions import StoreDamagedError
from swarm_hub.storage.write import Write

if TYPE_CHECKING:
    # A hub with a store of its own needs none of them.
    from swarm_hub.storage.engine.hints import Hint
    from swarm_hub.storage.engine.outage import Outage
    from swarm_hub.storage.queries.event_numbers import Numbered

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DiskUse:
    """How much disk space a database takes, and how much of that it could give back.

    `volume_bytes` is the size of the volume it is on, None if that is a server's.
    """

    used_bytes: int
    free_bytes: int
    volume_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a transaction that removes a bounded part of something tells of itself.

    How much was removed, whether there may be more, and when it began (`time.monotonic`). The begin
    is taken in the database's thread, so that the wait for it does not count.
    """

    removed: int
    more: bool
    began: float


class SharedDatabase(Protocol):
    """What a database offers besides if other gateways write to it too."""

    async def introduce(self, gateway: str) -> None:
        """Name the owner of the writing connection, so that others can end it if the owner dies."""

    async def number_events(self) -> "Numbered":
        """Number what was committed, unless another gateway does so now; tell the others of it."""

    async def hint_request(self) -> None:
        """Tell the others that the owner of a job is asked for something."""

    def listen(self, heard: "Callable[[Hint], None]") -> None:
        """Have `heard` called on the loop when another gateway tells of something."""


class Database(Protocol):
    """SQLite for one hub, PostgreSQL for several gateways.

    Every call raises the StoreError that says what a caller can do: StoreFullError,
    StoreUnavailableError, StoreConflictError, StoreDamagedError.
    """

    @property
    def shared(self) -> SharedDatabase | None:
        """What gateways that share it need; None if no other hub writes to it."""

    @property
    def outage(self) -> "Outage | None":
        """The time in which its server is away; None of a database that is a file."""

    async def open(self) -> None:
        """Connect, and make or upgrade the schema."""

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one transaction; when this returns, it is on disk.

        `work` may be run again from the start if the connection to the database was lost meanwhile.
        """

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a reading connection; it sees one consistent snapshot."""

    async def ask(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work`, which is one statement, as `read` does but with one request to a server."""

    def execute(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Run statements that are used often, each for all of its rows; call it in `write`.

        What touches the same row of a table does so in the order of the statements and of the rows.
        """

    def on_damage(self, damaged: Callable[[StoreDamagedError], None]) -> None:
        """Have `damaged` called on the loop when a call meets a damaged file."""

    async def check(self) -> None:
        """Check the file if it is still due; raises StoreDamagedError."""

    async def disk_use(self) -> DiskUse:
        """Return how much disk space the database takes."""

    async def give_back(self, pages: int) -> Chunk:
        """Give up to that many free pages back to the disk, if the database can do that."""

    async def close(self) -> None:
        """Close every connection."""
