"""What PostgreSQL alone can do to a store: backends that freeze or end."""

import asyncio
import logging
import select
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Store
from swarm_hub.storage.engine import postgres
from swarm_hub.util.clock import Clock
from tests.conftest import until
from tests.helpers.postgres import PostgresServer

EVENT = NewEvent(EventType.COMPONENT_FAILED, {"number": 1})


@pytest.fixture
async def shared(tmp_path: Path, postgres_url: str) -> AsyncIterator[Store]:
    """Return an open store on PostgreSQL."""
    opened = Store.at(postgres_url, tmp_path, Clock())
    await opened.open()
    yield opened
    await opened.close()


async def test_a_gateway_frozen_among_its_statements_does_not_hold_up_the_others(
    shared: Store, postgres_url: str
) -> None:
    with closing(psycopg.connect(postgres_url, application_name="swarm_hub")) as frozen:
        # As the driver sends many statements: for the server this stays active, not idle.
        frozen.pgconn.enter_pipeline_mode()
        for statement in (b"BEGIN", b"LOCK TABLE event_queue"):
            frozen.pgconn.send_query_params(statement, None)
        frozen.pgconn.send_flush_request()
        frozen.pgconn.flush()
        await asyncio.to_thread(select.select, [frozen.fileno()], [], [], 10)
        began = time.monotonic()
        async with asyncio.timeout(20):
            await shared.commit([], [EVENT])
        assert time.monotonic() - began > 1, "it was not frozen in a transaction"


async def test_a_lost_listener_is_no_error(
    shared: Store,
    postgres_server: PostgresServer,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = asyncio.Event()
    shared.listen(heard.set)
    name = postgres_url.rpartition("/")[2]

    def listeners() -> list[int]:
        with postgres_server.connect(name) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
            return [pid for (pid,) in rows]

    async def found() -> list[int]:
        return await asyncio.to_thread(listeners)

    (before,) = await until(found, bool)
    await asyncio.to_thread(postgres_server.kill_backend, before)
    await until(found, lambda pids: bool(pids) and pids != [before])
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_call_that_was_frozen_for_longer_than_its_patience_is_tried_again(
    shared: Store, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_PATIENCE_S", 1.0)
    tries: list[int] = []

    def frozen_once(connection: Connection) -> int:
        driver: Any = connection.connection.driver_connection
        tries.append(driver.info.backend_pid)
        if len(tries) == 1:
            postgres_server.kill_backend(tries[0])
            time.sleep(1.2)
        return int(connection.execute(text("SELECT 1")).scalar_one())

    assert await shared.read(frozen_once) == 1
    assert len(set(tries)) == 2


async def test_a_commit_that_a_crash_took_back_is_done_again(
    shared: Store, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """The id of its transaction is another's after the crash, so that says nothing."""
    name = postgres_url.rpartition("/")[2]
    lives = []

    def work(connection: Connection) -> str:
        connection.execute(text("INSERT INTO tombstones VALUES ('job', 1.0, 0)"))
        lives.append(connection.execute(text("SELECT pg_current_xact_id()::text")).scalar_one())
        if len(lives) == 1:
            # The last moment before the COMMIT is sent.
            postgres_server.stop("immediate")
            postgres_server.start()
            with postgres_server.connect(name) as others:
                for _ in range(50):
                    others.execute("SELECT pg_current_xact_id()")
                said = others.execute("SELECT pg_xact_status(%s::xid8)", [lives[0]]).fetchone()
                # What made asking the server a mistake.
                assert said == ("committed",)
        return str(lives[-1])

    assert await shared._database.write(work) == lives[1]
    assert len(lives) == 2
    with postgres_server.connect(name) as found:
        assert found.execute("SELECT job_id FROM tombstones").fetchall() == [("job",)]


async def test_a_commit_whose_answer_was_lost_is_not_done_twice(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the server has committed, before the client hears of it."""
    runs = []

    def work(connection: Connection) -> int:
        runs.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        connection.execute(text("INSERT INTO tombstones VALUES ('job', 1.0, 0)"))
        return len(runs)

    committed = Connection._commit_impl

    def commit_unheard(connection: Connection) -> None:
        committed(connection)
        if runs:
            monkeypatch.undo()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(Connection, "_commit_impl", commit_unheard)
    assert await shared._database.write(work) == 1
    assert len(runs) == 1
