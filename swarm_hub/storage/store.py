"""The durable store of a hub: one writer with group commit, readers beside it, blobs.

`queries/` holds the statements; SQL appears nowhere else. It is long because whatever a component
may do with the store, shared or not, is a method here.
"""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection

from swarm_hub.exceptions import (
    PASSING_ERRORS,
    StoreAwayError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
)
from swarm_hub.models.event import CommittedEvents, DurableEvent, NewEvent
from swarm_hub.storage.blobs.store import BlobStore
from swarm_hub.storage.engine.database import Chunk, Database
from swarm_hub.storage.engine.feed import EventFeed
from swarm_hub.storage.engine.space import SpaceGuard, StoreSpace
from swarm_hub.storage.engine.sqlite import SqliteDatabase
from swarm_hub.storage.engine.writer import Writer
from swarm_hub.storage.queries import meta, pruning
from swarm_hub.storage.queries.leases import Fence
from swarm_hub.storage.schema import HEAD
from swarm_hub.storage.write import Write
from swarm_hub.util.clock import Clock
from swarm_hub.util.metrics import Metric, gauge, histogram

if TYPE_CHECKING:
    from swarm_hub.storage.engine.hints import Hint
    from swarm_hub.storage.engine.postgres import PostgresDatabase
    from swarm_hub.storage.engine.sequencer import Sequencer

__all__ = ["Fence", "Store", "StoreSpace", "Write"]

_LOGGER = logging.getLogger(__name__)

_RETRY_EVERY_S: Final = 0.5
_SHOWN_ID_DIGITS: Final = 32

SQLITE_URL: Final = "sqlite:///"
POSTGRES_URL: Final = "postgresql://"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def look_at(url: str, config_dir: Path, *, was_made: bool, in_use: bool) -> None:
    """Raise the StoreError that keeps the store of a configuration from being opened, if any.

    Nothing is changed. A file that a hub has `in_use` is not checked for damage.
    """
    if url.startswith(POSTGRES_URL):
        _postgres(url).look()
    else:
        path = config_dir / url.removeprefix(SQLITE_URL)
        SqliteDatabase(path, was_made=was_made).look(in_use=in_use)


async def upgrade_shared(url: str) -> str:
    """Make or upgrade the tables of a PostgreSQL database; returns their schema."""
    database = _postgres(url)
    try:
        await database.open()
    finally:
        await database.close()
    return HEAD


def look_beside(url: str) -> None:
    """Raise the StoreError that keeps a command from using a shared store beside its gateways."""
    _postgres(url).look(as_it_is=True)


def _postgres(url: str) -> "PostgresDatabase":
    # Only gateways that share a store need the driver, which is an extra of this package.
    try:
        from swarm_hub.storage.engine.postgres import PostgresDatabase
    except ImportError as error:
        raise StoreError(
            f"storage: url needs the PostgreSQL driver ({error}); install it with: "
            "pip install 'psycopg[binary]>=3.2'"
        ) from error
    return PostgresDatabase(url)


def _sequencer_of(database: Database, feed: EventFeed) -> "Sequencer | None":
    if database.shared is None:
        return None
    # A hub with a store of its own is spared the import.
    from swarm_hub.storage.engine.sequencer import Sequencer

    return Sequencer(database.shared, feed)


class Store:
    """What components use of the store; nothing is acknowledged before `commit` has returned."""

    def __init__(
        self,
        database: Database,
        blob_directory: Path,
        clock: Clock,
        space: SpaceGuard | None = None,
    ) -> None:
        self._database = database
        self._space = space
        self._clock = clock
        self._feed = EventFeed(database)
        self._sequencer = _sequencer_of(database, self._feed)
        self._writer = Writer(database, clock, self._feed, self._on_trouble, self._sequencer)
        self.damaged: StoreDamagedError | None = None
        self._tell_damage: Callable[[StoreDamagedError], None] = lambda _error: None
        database.on_damage(self._found_damage)
        self.db_id = ""
        self._secret = b""
        self._writer_task: asyncio.Task[None] | None = None
        self.blobs = BlobStore(blob_directory, database)
        self._signs: list[asyncio.Event] = []

    @classmethod
    def at(
        cls,
        url: str,
        config_dir: Path,
        clock: Clock,
        min_free_bytes: int = 0,
        *,
        was_made: bool = False,
    ) -> "Store":
        """Return the store of a configuration; a relative path is inside `config_dir`."""
        if url.startswith(POSTGRES_URL):
            return cls(_postgres(url), config_dir / "blobs", clock)
        path = config_dir / url.removeprefix(SQLITE_URL)
        return cls.on_file(path, clock, min_free_bytes, was_made=was_made)

    @classmethod
    def on_file(
        cls, path: Path, clock: Clock, min_free_bytes: int = 0, *, was_made: bool = False
    ) -> "Store":
        """Return the store of a SQLite file, with its blobs beside it.

        With `was_made` the file is known to have existed, so that a missing one counts as damage.
        """
        space = SpaceGuard(path, min_free_bytes)
        return cls(SqliteDatabase(path, was_made=was_made), path.parent / "blobs", clock, space)

    async def open(self) -> None:
        """Open the database and start the writer; raises StoreError with what to do."""
        try:
            await self._database.open()
            self.blobs.open()
            self.db_id = await self._database.write(meta.database_id)
            self._secret = await self._database.write(meta.secret)
            if self._database.shared is not None:
                # What this gateway left at a kill is of the past, as all that is numbered.
                await self._database.shared.number_events()
            await self._feed.open()
        except BaseException:
            # A damaged file is moved aside by the caller: we must not hold it open.
            await self._database.close()
            raise
        # The writer outlives the hub's task supervisor: stop hooks still write.
        self._writer_task = asyncio.get_running_loop().create_task(
            self._writer.run(), name="store writer"
        )
        if self._sequencer is not None:
            self._sequencer.start()

    def shown_id(self, peer_id: str) -> str:
        """Return what this store is called to one peer.

        Only hubs on the same store can say it: a name that all know could be anybody's claim.
        """
        return hmac.new(self._secret, peer_id.encode(), "sha256").hexdigest()[:_SHOWN_ID_DIGITS]

    def on_committed(self, publish: Callable[[DurableEvent], None]) -> None:
        """Have durable events handed to `publish` once they are on disk, in order."""
        self._feed.on_committed(publish)

    def on_own_commit(self, tell: Callable[[CommittedEvents], None]) -> None:
        """Have the events of each commit of this hub told to `tell`, before its callers know."""
        self._feed.on_own_commit(tell)

    @property
    def shared(self) -> bool:
        """Whether other gateways may write to this store too."""
        return self._database.shared is not None

    @property
    def away_s(self) -> float | None:
        """For how long the server of a shared store has been away, None while it answers."""
        outage = self._database.outage
        return None if outage is None else outage.lasts_s

    def on_away(self, began: Callable[[], None]) -> None:
        """Have `began` called whenever the server of a shared store goes away."""
        if (outage := self._database.outage) is not None:
            outage.on_begin(began)

    def refuse_if_away(self) -> None:
        """Raise StoreAwayError if the server of a shared store is away."""
        if (outage := self._database.outage) is not None:
            outage.refuse()

    def is_unanswered(self, for_s: float) -> None:
        """Note that what was asked of a shared store has not been answered for so long."""
        if (outage := self._database.outage) is not None:
            outage.begin(StoreAwayError(f"there was no answer for {for_s:.0f} s"))

    @property
    def free_bytes(self) -> int | None:
        """How much space was free at the last look, None if nobody looks here."""
        return None if self._space is None else self._space.free_bytes

    @property
    def full(self) -> str | None:
        """Why nothing new should be taken for lack of space; None if there is enough."""
        return None if self._space is None else self._space.full

    @property
    def spent(self) -> bool:
        """Whether there is no room even for what was taken before the disk became full."""
        return self._space is not None and self._space.spent

    def on_space(self, changed: Callable[[StoreSpace], None]) -> None:
        """Have `changed` called when the disk becomes full and when it has space again."""
        if self._space is not None:
            self._space.on_change(changed)

    def sign_of_use(self) -> asyncio.Event:
        """Return an event that is set whenever something is written here."""
        self._signs.append(sign := asyncio.Event())
        return sign

    def leave_free(self, min_free_bytes: int) -> None:
        """Leave so much of the disk free from the next look at it on."""
        if self._space is not None:
            self._space.bound(min_free_bytes)

    async def look_at_space(self) -> None:
        """Compare the free space with the floor; call it every few seconds."""
        if self._space is not None:
            await self._space.look()

    async def check(self) -> None:
        """Check a large file whose last stop was unclean; raises StoreDamagedError."""
        await self._database.check()

    @property
    def busy(self) -> bool:
        """Whether so many writes wait for the disk that new jobs should be refused for now."""
        return self._writer.busy

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the disk."""
        return self._writer.idle

    def metrics(self) -> tuple[Metric, ...]:
        """Return what the writer has done and has to do."""
        return (
            histogram(
                "swarm_hub_store_commit_seconds", "How long transactions took until they were on "
                "disk.", self._writer.commit_s,
            ),
            gauge(
                "swarm_hub_store_pending_rows", "Rows that wait for the disk.",
                self._writer.pending_rows,
            ),
            gauge("swarm_hub_store_last_seq", "The number of the newest event.", self.last_seq),
        )  # fmt: skip

    async def sign(self) -> None:
        """Return when the thread that writes has made a round; raises StoreError.

        The lease of a gateway has it write to a shared store every few seconds: whoever asks for
        this hub's health costs the server nothing.
        """
        if self._database.shared:
            await self._writer.round()
        else:
            await self._database.write(lambda _connection: None)

    async def disk_bytes(self) -> int:
        """Return how many bytes the store takes: its database, with the log, and blob files."""
        used = (await self._database.disk_use()).used_bytes
        if self.shared:
            return used  # blob files are a cache there
        return used + await self.read(pruning.blob_files_bytes)

    async def volume_bytes(self) -> int | None:
        """Return how large the volume is that the store is on, None if a server has it."""
        return (await self._database.disk_use()).volume_bytes

    async def free_share(self) -> tuple[int, float]:
        """Return how many bytes the database could give back, and their share of its size."""
        space = await self._database.disk_use()
        return space.free_bytes, space.free_bytes / max(1, space.free_bytes + space.used_bytes)

    async def give_back(self, pages: int) -> Chunk:
        """Give up to that many free pages of the database back to the disk."""
        return await self._database.give_back(pages)

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest durable event that was handed over."""
        return self._feed.last_seq

    def on_damage(self, damaged: Callable[[StoreDamagedError], None]) -> None:
        """Have `damaged` called, once, when a use of the file finds it damaged or already has."""
        self._tell_damage = damaged
        if self.damaged is not None:
            damaged(self.damaged)

    def _found_damage(self, error: StoreDamagedError) -> None:
        if self.damaged is None:
            self.damaged = error
            self._tell_damage(error)

    def _on_trouble(self, error: StoreError) -> None:
        if isinstance(error, StoreFullError) and self._space is not None:
            self._space.trip(error)

    async def catch_up(self) -> None:
        """Return when every event that any gateway committed before was handed over.

        Whoever read the state of a job and wants the events that led to it calls this in between:
        on a shared store an event comes a moment later than what it tells of.
        """
        if self._sequencer is not None:
            await self._sequencer.catch_up()

    async def hand_over(self) -> None:
        """Hand over the events that are numbered, also those of other gateways."""
        if self._sequencer is not None:
            await self._feed.catch_up()

    async def introduce(self, gateway: str) -> None:
        """Name the gateway that writes to a shared store.

        Others end its session if its lease runs out.
        """
        if self._database.shared is not None:
            await self._database.shared.introduce(gateway)

    def listen(self, asked: Callable[[], None]) -> None:
        """Hear what other gateways tell; `asked` is called when an owner is asked for something.

        Each of them is only a hint, which may be lost.
        """
        sequencer = self._sequencer
        if self._database.shared is None or sequencer is None:
            return

        def heard(hint: "Hint") -> None:
            sequencer.heard(hint)
            if hint.asked:
                asked()

        self._database.shared.listen(heard)

    def follow_while(self, wanted: Callable[[], bool]) -> None:
        """Hand over events of other gateways at once while `wanted()`.

        Otherwise they come within a second. Whoever begins to want them calls `catch_up` then.
        """
        if self._sequencer is not None:
            self._sequencer.follow_while(wanted)

    async def hint_request(self) -> None:
        """Tell the other gateways that the owner of a job is asked for something."""
        if self._database.shared is not None:
            with suppress(*PASSING_ERRORS):
                await self._database.shared.hint_request()

    def commit(
        self,
        writes: Sequence[Write],
        events: Sequence[NewEvent] = (),
        fence: Fence | None = None,
    ) -> Awaitable[None]:
        """Write a unit atomically; the awaitable is done when it is on disk.

        Units commit in the order of the calls, even if nobody awaits them yet. With `fence` the
        unit is refused (StoreFencedError) if another gateway has taken over one of these jobs.
        """
        return self._submit(writes, events, fence)

    async def commit_when_possible(
        self,
        writes: Sequence[Write],
        events: Sequence[NewEvent] = (),
        fence: Fence | None = None,
        *,
        wait_for_space: bool = True,
    ) -> None:
        """Write what must not be lost, however long it has to wait for the disk or the server.

        Raises StoreError only for what waiting can't cure, and StoreFullError if it should not wait
        for space.
        """
        await self.when_possible(
            lambda: self._submit(writes, events, fence), wait_for_space=wait_for_space
        )

    async def when_possible(
        self, work: Callable[[], Awaitable[_T]], *, wait_for_space: bool = True
    ) -> _T:
        """Do `work`, retrying as long as the disk or the server prevents it."""
        told = False
        while True:
            try:
                done = await work()
            except PASSING_ERRORS as error:
                if isinstance(error, StoreFullError) and not wait_for_space:
                    raise
                if not told:
                    _LOGGER.error("Nothing is acknowledged until the store works again: %s", error)
                told = True
                await asyncio.sleep(_RETRY_EVERY_S)
            else:
                if told:
                    _LOGGER.info("The store works again")
                return done

    async def change(
        self,
        work: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run a function of this package that reads and writes in a transaction of its own."""
        self._used()
        return await self._database.write(lambda connection: work(connection, *args, **kwargs))

    def note(self, writes: Sequence[Write]) -> None:
        """Write what nobody waits for and a restart can do without; a failure is only logged."""
        try:
            self._submit(writes).add_done_callback(_log_failure)
        except StoreError as error:
            _LOGGER.warning("A note was not written: %s", error)

    async def read(
        self,
        query: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run a query function of this package on a consistent snapshot."""
        return await self._database.read(lambda connection: query(connection, *args, **kwargs))

    async def ask(
        self,
        query: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run a query function that is one statement; a server is asked once, not thrice."""
        return await self._database.ask(lambda connection: query(connection, *args, **kwargs))

    async def close(self) -> None:
        """Write what is left and close the files; a closed store stays closed."""
        writing, self._writer_task = self._writer_task, None
        if writing is None:
            return
        self._writer.close()
        await writing
        if self._sequencer is not None:
            await self._sequencer.close()
        await self._database.close()

    def _submit(
        self, writes: Sequence[Write], events: Sequence[NewEvent] = (), fence: Fence | None = None
    ) -> "asyncio.Future[None]":
        self._used()
        return self._writer.submit(writes, events, fence)

    def _used(self) -> None:
        for sign in self._signs:
            sign.set()


def _log_failure(written: "asyncio.Future[None]") -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        _LOGGER.warning("A note was not written: %s", error)
