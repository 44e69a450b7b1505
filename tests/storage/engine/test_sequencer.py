"""Events of a store that gateways share: numbered after their commit, each once, in order."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from swarm_hub.models.event import DurableEvent, EventType, NewEvent
from swarm_hub.storage import Store
from swarm_hub.storage.engine import hints, sequencer
from swarm_hub.storage.engine.hints import Hint
from swarm_hub.storage.queries import events, leases
from swarm_hub.util.clock import Clock
from tests.conftest import until
from tests.helpers.postgres import PostgresServer

Opens = Callable[[], Awaitable[Store]]


def event(writer: int, number: int) -> NewEvent:
    told = {"writer": writer, "number": number}
    return NewEvent(EventType.COMPONENT_FAILED, told, f"job-{number % 3}")


@pytest.fixture
async def opened(postgres_url: str, tmp_path: Path) -> AsyncIterator[Opens]:
    """Return a way to open one more store on the same new database."""
    async with AsyncExitStack() as stack:

        async def open_store() -> Store:
            store = Store.at(postgres_url, tmp_path, Clock())
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield open_store


def hear_all(store: Store) -> list[DurableEvent]:
    """Have a store follow what all gateways do; returns the list that gets it."""
    heard: list[DurableEvent] = []
    store.on_committed(heard.append)
    store.follow_while(lambda: True)
    store.listen(lambda: None)
    return heard


async def has(heard: list[DurableEvent], count: int) -> None:
    async def n_heard() -> int:
        return len(heard)

    await until(n_heard, lambda now: now >= count)


def assert_whole(found: list[DurableEvent], n_writers: int, each: int) -> None:
    """All events are there once, without a gap, and each writer's in the order of its commits."""
    assert [one.seq for one in found] == list(range(1, n_writers * each + 1))
    by_writer: dict[int, list[int]] = defaultdict(list)
    for one in found:
        by_writer[one.data["writer"]].append(one.data["number"])
    assert by_writer == {writer: list(range(each)) for writer in range(n_writers)}


async def test_three_writers_at_once_are_heard_and_read_whole_by_everybody(opened: Opens) -> None:
    stores = [await opened() for _ in range(3)]
    heard = [hear_all(store) for store in stores]
    each, done = 120, asyncio.Event()

    async def write(writer: int, store: Store) -> None:
        for number in range(0, each, 2):
            await store.commit([], [event(writer, number), event(writer, number + 1)])

    async def page(store: Store) -> list[DurableEvent]:
        """Read as a client does that asks for what came after its last one."""
        found: list[DurableEvent] = []
        last = False
        while not last:
            last = done.is_set()
            found += await store.read(events.since, found[-1].seq if found else 0, 7)
            last = last and len(found) == 3 * each
        return found

    paging = [asyncio.create_task(page(store)) for store in stores]
    await asyncio.gather(*(write(number, store) for number, store in enumerate(stores)))
    done.set()
    async with asyncio.timeout(30):
        for found in await asyncio.gather(*paging):
            assert_whole(found, 3, each)
    for found in heard:
        await has(found, 3 * each)
        assert_whole(found, 3, each)
    assert [store.last_seq for store in stores] == [3 * each] * 3


async def test_gateways_of_the_schema_before_number_beside(
    opened: Opens, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """A fleet is upgraded one by one; these hold a lock from the number to the commit."""
    store = await opened()
    each = 60

    def former() -> None:
        with postgres_server.connect(postgres_url.rpartition("/")[2]) as connection:
            for number in range(each):
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", [0x5A4B0002])
                    (newest,) = connection.execute("SELECT max(seq) FROM events").fetchone() or (0,)
                    told = json.dumps({"writer": 1, "number": number})
                    connection.execute(
                        "INSERT INTO events (seq, event_type, time_fired, data) "
                        "VALUES (%s, 'component_failed', 0, %s)", [(newest or 0) + 1, told],
                    )  # fmt: skip

    async def write() -> None:
        for number in range(each):
            await store.commit([], [event(0, number)])

    await asyncio.gather(asyncio.to_thread(former), write())
    await store.catch_up()
    assert_whole(await store.read(events.since, 0, 1000), 2, each)


async def test_what_is_committed_is_known_to_everybody_who_catches_up(opened: Opens) -> None:
    writer, reader = await opened(), await opened()
    heard: list[DurableEvent] = []
    reader.on_committed(heard.append)
    for number in range(20):
        await writer.commit([], [event(0, number)])
        # It neither listens nor wants to follow.
        await reader.catch_up()
        assert heard[-1].data["number"] == number
    assert_whole(heard, 1, 20)


async def test_a_caller_does_not_wait_for_a_number(
    opened: Opens, postgres_url: str, postgres_server: PostgresServer
) -> None:
    store = await opened()
    heard = hear_all(store)
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as others:
        with others.transaction():
            # As a gateway that numbers at this moment.
            others.execute("SELECT FROM meta WHERE key = 'event_numbers' FOR UPDATE")
            async with asyncio.timeout(5):
                for number in range(10):
                    await store.commit([], [event(0, number)])
            assert heard == []
        await has(heard, 10)
    assert_whole(heard, 1, 10)


async def test_those_who_wait_for_numbers_say_so_when_there_are_none(
    opened: Opens,
    postgres_url: str,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequencer, "_PATIENCE_S", 0.1)
    store = await opened()
    with (
        postgres_server.connect(postgres_url.rpartition("/")[2]) as others,
        others.transaction(),
    ):
        others.execute("SELECT FROM meta WHERE key = 'event_numbers' FOR UPDATE")
        with pytest.raises(Exception, match="does not get done numbering"):
            await store.catch_up()


async def test_events_of_a_gateway_that_died_are_numbered_by_another_and_by_itself(
    opened: Opens, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """It was killed between the commit and the numbering."""
    add = "INSERT INTO event_queue (event_type, time_fired, data) VALUES ('node_up', 1.0, '{}')"
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as killed:
        other = await opened()
        heard = hear_all(other)
        killed.execute(add)
        seen = await other.ask(leases.look, "other")
        assert (seen.queued, seen.newest_seq) == (True, 0)
        await other.catch_up()
        assert [one.seq for one in heard] == [1]
        seen = await other.ask(leases.look, "other")
        assert (seen.queued, seen.newest_seq) == (False, 1)
        killed.execute(add)
        # What was committed before it starts is not told to it again.
        itself = await opened()
        assert itself.last_seq == 2


async def test_a_numbering_whose_backend_is_killed_leaves_no_gap_and_nothing_twice(
    opened: Opens, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """At any moment: before the statement, in it, between it and the notification, after both."""
    stores = [await opened() for _ in range(2)]
    heard = [hear_all(store) for store in stores]
    each, over = 100, asyncio.Event()

    def kill_some(name: str) -> int:
        with postgres_server.connect(name) as administrator:
            return len(
                administrator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                    "AND (query LIKE '%event_numbers%' OR query LIKE '%pg_notify%')"
                ).fetchall()
            )

    async def kill() -> int:
        killed = 0
        while not over.is_set():
            killed += await asyncio.to_thread(kill_some, postgres_url.rpartition("/")[2])
        return killed

    killing = asyncio.create_task(kill())
    for number in range(each):
        await asyncio.gather(
            *(store.commit([], [event(writer, number)]) for writer, store in enumerate(stores))
        )
    over.set()
    assert await killing > 0
    for store, found in zip(stores, heard, strict=True):
        async with asyncio.timeout(20):
            await store.catch_up()
        assert_whole(found, 2, each)


@pytest.mark.nightly
async def test_a_lost_listener_and_a_crash_of_the_server_lose_no_event(
    opened: Opens, postgres_server: PostgresServer
) -> None:
    writer, reader = await opened(), await opened()
    heard = hear_all(reader)
    for number in range(30):
        if number in (10, 20):
            await asyncio.to_thread(postgres_server.crash)
        await writer.commit([], [event(0, number)])
    # It listens anew, and looks at once, since nobody tells it what it has missed.
    await has(heard, 30)
    assert_whole(heard, 1, 30)


async def test_nobody_reads_what_nobody_wants(
    opened: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = await opened(), await opened()
    told: list[Hint] = []
    wanted = False
    heard: list[DurableEvent] = []
    reader.on_committed(heard.append)
    reader.follow_while(lambda: wanted)
    own = reader._sequencer
    assert own is not None
    take = own.heard

    def note(hint: Hint) -> None:
        take(hint)
        told.append(hint)

    monkeypatch.setattr(own, "heard", note)
    asked = asyncio.Event()
    reader.listen(asked.set)
    await asyncio.wait_for(asked.wait(), 10)
    asked.clear()
    await writer.commit([], [event(0, 0)])

    async def newest() -> int:
        return max((hint.last_seq or 0 for hint in told), default=0)

    await until(newest, lambda seq: seq == 1)
    assert (heard, reader.last_seq, asked.is_set()) == ([], 0, False)
    wanted = True
    await writer.commit([], [event(0, 1)])
    await has(heard, 2)
    assert not asked.is_set()
    await writer.hint_request()
    await asyncio.wait_for(asked.wait(), 10)


async def test_what_a_gateway_does_itself_is_no_hint_to_it(opened: Opens) -> None:
    store, other = await opened(), await opened()
    await store.introduce("one")
    asked = asyncio.Event()
    store.listen(asked.set)
    await asyncio.wait_for(asked.wait(), 10)
    asked.clear()
    await store.hint_request()
    await other.introduce("two")
    told: list[str] = []
    other.listen(lambda: told.append("asked"))

    async def listening() -> int:
        return len(told)

    await until(listening, lambda count: count >= 1)
    await store.hint_request()
    await until(listening, lambda count: count >= 2)
    assert not asked.is_set()


@pytest.mark.parametrize(
    ("payload", "meant"),
    [
        ("one:1-12", Hint(12, asked=False)),
        ("one:asked", Hint(0, asked=True)),
        ("me:1-12", None),
        ("me:asked", None),
        ("", hints.UNKNOWN),
        ("one:1-", hints.UNKNOWN),
        ("one:1-12345678901234567890", hints.UNKNOWN),
        ("one:more", hints.UNKNOWN),
    ],
)
def test_a_payload_that_is_not_known_may_mean_anything(payload: str, meant: Hint | None) -> None:
    assert hints.read(payload, "me") == meant
