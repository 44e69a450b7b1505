"""Group commit: everybody is told after the commit, and a bad write fails alone."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from swarm_hub.exceptions import StoreBusyError, StoreError
from swarm_hub.models.event import DurableEvent, EventType, NewEvent
from swarm_hub.storage import Store, Write, schema
from swarm_hub.storage.engine.writer import PENDING_ROWS_MAX
from swarm_hub.storage.queries import events, replay_cache
from swarm_hub.util.clock import Clock
from tests.conftest import MovableClock
from tests.storage.engine.writes import FOREVER, remember


@contextmanager
def beside(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Look at the file as another process would."""
    with closing(sqlite3.connect(tmp_path / "swarm_hub.db", timeout=10)) as database:
        yield database


def stored(tmp_path: Path) -> list[bytes]:
    with beside(tmp_path) as database:
        return [jti for (jti,) in database.execute("SELECT jti FROM seen ORDER BY jti")]


def bad() -> Write:
    """Return a write that breaks a rule of its table."""
    return Write(remember(0).statement, [{"jti": b"bad", "iss": None, "body_hash": b"", "exp": 1}])


def event(number: int) -> NewEvent:
    return NewEvent(EventType.COMPONENT_FAILED, {"number": number}, "job")


async def test_a_future_is_done_only_when_its_rows_are_on_disk(
    store: Store, tmp_path: Path
) -> None:
    waiting = [store.commit([remember(number)]) for number in range(200)]
    for number, committed in enumerate(waiting):
        await committed
        assert number.to_bytes(4, "big") in stored(tmp_path)


async def test_many_units_share_a_transaction(store: Store, tmp_path: Path) -> None:
    versions = []
    with beside(tmp_path) as database:
        for _ in range(2):
            versions.append(database.execute("PRAGMA data_version").fetchone()[0])
            await asyncio.gather(*(store.commit([remember(number)]) for number in range(500)))
        versions.append(database.execute("PRAGMA data_version").fetchone()[0])
    # 500 units came with the first turn of the loop, so they went in one or two commits.
    assert versions[-1] - versions[0] <= 4


async def test_a_bad_unit_fails_alone_and_whole(store: Store, tmp_path: Path) -> None:
    good = [store.commit([remember(number)], [event(number)]) for number in range(10)]
    broken = store.commit([remember(99), bad()], [event(99)])
    more = [store.commit([remember(number)], [event(number)]) for number in range(10, 20)]
    with pytest.raises(StoreError, match="a write failed"):
        await broken
    await asyncio.gather(*good, *more)
    assert stored(tmp_path) == [number.to_bytes(4, "big") for number in range(20)]
    told = [each.data["number"] for each in await store.read(events.since, 0, 100)]
    assert told == list(range(20))


async def test_an_event_that_is_no_json_fails_alone(store: Store) -> None:
    broken = store.commit([], [NewEvent(EventType.JOB_QUEUED, {"what": object()})])
    good = store.commit([], [event(1)])
    with pytest.raises(StoreError):
        await broken
    await good
    async with asyncio.timeout(30):
        await store.commit([], [event(2)])


async def test_units_commit_in_the_order_of_the_calls(store: Store) -> None:
    heard: list[int] = []
    store.on_committed(lambda committed: heard.append(committed.data["number"]))
    waiting = [store.commit([], [event(number)]) for number in range(3000)]
    await waiting[-1]
    assert heard == list(range(3000))
    assert store.last_seq == 3000


async def test_events_are_told_only_after_their_commit(store: Store, tmp_path: Path) -> None:
    seen_on_disk: list[bool] = []

    def look(committed: DurableEvent) -> None:
        with beside(tmp_path) as database:
            row = database.execute("SELECT 1 FROM events WHERE seq = ?", (committed.seq,))
            seen_on_disk.append(row.fetchone() is not None)

    store.on_committed(look)
    await asyncio.gather(*(store.commit([], [event(number)]) for number in range(20)))
    assert seen_on_disk == [True] * 20


async def test_a_cancelled_waiter_does_not_take_its_write_back(
    store: Store, tmp_path: Path
) -> None:
    async def write() -> None:
        await store.commit([remember(7)])

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    await store.commit([remember(8)])
    assert stored(tmp_path) == [(7).to_bytes(4, "big"), (8).to_bytes(4, "big")]


async def test_a_full_queue_refuses_new_work_and_recovers(store: Store) -> None:
    rows = [
        {"jti": number.to_bytes(4, "big"), "iss": "p", "body_hash": b"", "exp": FOREVER}
        for number in range(PENDING_ROWS_MAX)
    ]
    large = store.commit([Write(remember(0).statement, rows)])
    assert store.busy
    with pytest.raises(StoreBusyError, match="try again"):
        store.commit([remember(1)])
    await large
    assert not store.busy
    await store.commit([remember(1)])


async def test_a_closing_store_writes_what_it_was_given_and_nothing_later(
    tmp_path: Path,
) -> None:
    store = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    await store.open()
    for number in range(50):
        store.commit([remember(number)])
    await store.close()
    await store.close()
    assert len(stored(tmp_path)) == 50
    with pytest.raises(StoreError, match="closed"):
        store.commit([remember(99)])


async def test_a_seq_never_repeats_over_restarts_failures_and_pruning(tmp_path: Path) -> None:
    given: list[int] = []
    clock = MovableClock()
    for life in range(4):
        store = Store.on_file(tmp_path / "swarm_hub.db", clock)
        await store.open()
        store.on_committed(lambda committed: given.append(committed.seq))
        await store.commit([], [event(life), event(life)])
        with pytest.raises(StoreError):
            await store.commit([bad()], [event(life)])
        await store.commit([], [event(life)])
        clock.offset_s += 100
        await store.change(events.prune, clock.time() - 50, 1000)
        await store.close()
    assert len(given) == 12
    assert given == sorted(set(given))


async def test_a_reader_sees_one_snapshot_while_others_write(store: Store) -> None:
    await store.commit([remember(1)])
    reading, written = threading.Event(), threading.Event()

    def counts(connection: Connection) -> tuple[int, int]:
        first = connection.execute(text("SELECT count(*) FROM seen")).scalar_one()
        reading.set()
        assert written.wait(30)
        return first, connection.execute(text("SELECT count(*) FROM seen")).scalar_one()

    looking = asyncio.create_task(store.read(counts))
    assert await asyncio.to_thread(reading.wait, 30)
    await store.commit([remember(2)])
    written.set()
    assert await looking == (1, 1)
    assert len(await store.read(replay_cache.unexpired, 0)) == 2


async def test_a_reader_can_not_write(store: Store) -> None:
    with pytest.raises(Exception, match="readonly"):
        await store.read(lambda connection: connection.execute(text("DELETE FROM meta")))


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    newer = int(schema.HEAD) + 1
    with beside(tmp_path) as database:
        database.execute(f"PRAGMA user_version={newer}")
    store = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    told = f"has schema {newer:04}, this swarm_hub knows up to {schema.HEAD}"
    with pytest.raises(StoreError, match=told):
        await store.open()
    await store.close()
    with beside(tmp_path) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


async def test_a_database_keeps_its_id_and_another_has_another(tmp_path: Path) -> None:
    ids = []
    for folder in ("a", "a", "b"):
        store = Store.on_file(tmp_path / folder / "swarm_hub.db", Clock())
        await store.open()
        ids.append(store.db_id)
        await store.close()
    assert ids[0] == ids[1] != ids[2]


async def test_the_store_is_durable_before_anybody_is_told(store: Store, tmp_path: Path) -> None:
    def pragmas(connection: Connection) -> tuple[str, int]:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return mode, connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

    assert await store._database.write(pragmas) == ("wal", 2)


async def test_expired_ids_are_forgotten(store: Store) -> None:
    await store.commit(
        [
            replay_cache.remember(b"old", "p", b"", 10.0),
            replay_cache.remember(b"new", "p", b"", 30.0),
        ]
    )
    await store.commit([replay_cache.forget_expired(20.0)])
    assert set(await store.read(replay_cache.unexpired, 0)) == {b"new"}
