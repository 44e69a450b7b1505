"""Every released schema is brought to the newest one, whole or not at all."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.schema import SchemaItem

from swarm_hub.exceptions import StoreError
from swarm_hub.models.job import JobState
from swarm_hub.storage import Store, schema
from swarm_hub.storage.queries import inbox, jobs, leases, nodes, recovery
from swarm_hub.util.clock import Clock
from tests.helpers.old_databases import FINISHED_JOB, RUNNING_JOB, SCHEMAS, old_database


async def opened(path: Path) -> Store:
    store = Store.on_file(path, Clock())
    await store.open()
    return store


def declared(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return each table's columns with type, NOT NULL, default and key, STRICT or not, and indexes.

    Of an index it is the statement, so that conditions are compared, too.
    """
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM pragma_table_list")]
        found = {name: list(database.execute(f"PRAGMA table_info({name})")) for name in names}
        kinds = database.execute("SELECT name, wr, strict FROM pragma_table_list")
        tables = {name: [*found[name], (wr, strict)] for name, wr, strict in kinds}
        indexes = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'")
        return {**tables, **{name: [(text,)] for name, text in indexes}}


def is_of_sqlite(item: SchemaItem, *_: object) -> bool:
    """Return whether it is not an index that only a shared store has."""
    return "dialect" not in item.info


def test_there_is_a_copy_of_every_schema_but_the_newest() -> None:
    assert sorted(path.stem for path in SCHEMAS.glob("*.sql")) == list(schema.REVISIONS[:-1])


@pytest.mark.parametrize("revision", schema.REVISIONS[:-1])
async def test_an_upgraded_database_is_like_a_new_one(tmp_path: Path, revision: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    path = old_database(old, revision)
    for each in (path, new / "swarm_hub.db"):
        store = await opened(each)

        def differences(connection: Connection) -> list[Any]:
            opts = {"compare_server_default": True, "include_object": is_of_sqlite}
            context = MigrationContext.configure(connection, opts=opts)
            return list(compare_metadata(context, schema.metadata))

        assert await store.read(differences) == []
        await store.close()
    assert declared(path) == declared(new / "swarm_hub.db")


@pytest.mark.parametrize("revision", schema.REVISIONS[:-1])
async def test_an_upgrade_keeps_every_row(tmp_path: Path, revision: str) -> None:
    store = await opened(old_database(tmp_path, revision))
    assert await store.change(leases.adopt, "gateway", starting=True) == {RUNNING_JOB: 2}
    left, cutting, shards, assignments = await store.read(recovery.unfinished, RUNNING_JOB)
    assert (left.state, cutting.n_items, len(shards), len(assignments)) == (
        JobState.RUNNING,
        60,
        1,
        1,
    )
    finished = await store.read(jobs.get, FINISHED_JOB)
    assert finished is not None
    assert (finished.state, finished.result_inline) == (JobState.COMPLETED, b"1770")
    assert await store.read(jobs.by_idempotency_key, "key-a") == (FINISHED_JOB, "digest")
    assert await store.read(jobs.was_pruned, "01KAOLD")
    assert [e.assignment_id for e in await store.read(inbox.open_entries)] == ["01KAOTHER.1.1"]
    (done,) = await store.read(inbox.undelivered)
    assert (done.result.assignment_id, done.result.body) == ("01KAOTHER.2.1", b"y")
    assert store.last_seq == 8
    await store.close()


async def test_nodes_that_were_met_before_there_was_admission_stay_admitted(
    tmp_path: Path,
) -> None:
    path = old_database(tmp_path, "0002")
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "INSERT INTO nodes (peer_id, name, kid, public_key, first_seen, last_seen) "
            "VALUES ('12D3KooWmet', 'tablet', 'kid', x'00', 1, 1), "
            "('12D3KooWbanned', '', NULL, NULL, 1, 1)"
        )
        database.commit()
    store = await opened(path)
    found = {node.peer_id: node.admission for node in await store.read(nodes.all_nodes)}
    assert found["12D3KooWmet"] == "approved"
    assert found["12D3KooWbanned"] is None
    await store.close()


async def test_jobs_that_had_ended_know_what_they_got_done(tmp_path: Path) -> None:
    path = old_database(tmp_path, "0007")
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO shards VALUES (?, 1, 'dead', 60, 5, 3, NULL)", [FINISHED_JOB])
        database.execute("INSERT INTO shards VALUES (?, 1, 'done', 60, 5, 1, NULL)", [RUNNING_JOB])
        database.commit()
    store = await opened(path)
    await store.close()
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT id, n_done_items, n_done_shards, n_failed_items FROM jobs ORDER BY id"
        )
        assert rows.fetchall() == [(FINISHED_JOB, 60, 1, 0), (RUNNING_JOB, 0, 0, 0)]
        assert database.execute("SELECT DISTINCT speeds FROM nodes").fetchall() in ([], [(None,)])


async def test_events_that_a_pruned_job_left_before_the_upgrade_are_still_removed_later(
    tmp_path: Path,
) -> None:
    path = old_database(tmp_path, "0007")
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO tombstones VALUES ('01KAGONE', 1763000000.0, 0)")
        database.execute(
            "INSERT INTO events VALUES (99, 'job_pruned', '01KAGONE', 1763000000.0, '{}')"
        )
        database.commit()
    store = await opened(path)
    await store.close()
    with closing(sqlite3.connect(path)) as database:
        left = database.execute("SELECT job_id, events_left FROM tombstones ORDER BY job_id")
        assert left.fetchall() == [("01KAGONE", 1), ("01KAOLD", 0)]


async def test_a_postgresql_of_schema_0002_is_upgraded_too(
    tmp_path: Path, postgres_url: str
) -> None:
    """There is no dump of one: what was added since is taken away from a new one."""

    async def described() -> Any:
        store = Store.at(postgres_url, tmp_path, Clock())
        await store.open()
        try:
            return await store.read(pg_schema)
        finally:
            await store.close()

    new = await described()
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        for table in (
            "invites", "banned_networks", "revoked_keys", "key_rotations", "receipts", "tokens",
            "replay_floors", "uploads", "automation_reader", "automations", "automation_runs",
            "event_queue",
        ):  # fmt: skip
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
        connection.execute(
            "ALTER TABLE nodes DROP COLUMN admission, DROP COLUMN drain_reason, "
            "DROP COLUMN agreements, DROP COLUMN contradictions, DROP COLUMN owner, "
            "DROP COLUMN speeds, DROP COLUMN labels, DROP COLUMN standing_at"
        )
        connection.execute(
            "ALTER TABLE outbox DROP COLUMN peak_memory_bytes, DROP COLUMN fuel, "
            "DROP COLUMN call_sha"
        )
        connection.execute(
            "ALTER TABLE results DROP COLUMN peak_memory_bytes, DROP COLUMN fuel, "
            "DROP COLUMN stderr, DROP COLUMN counted, DROP COLUMN receipt"
        )
        connection.execute(
            "ALTER TABLE jobs DROP COLUMN script_sha, DROP COLUMN n_done_items, "
            "DROP COLUMN n_done_shards, DROP COLUMN n_failed_items, DROP COLUMN parts_sha, "
            "DROP COLUMN change_asked, DROP COLUMN offered_to"
        )
        connection.execute("ALTER TABLE gateways DROP COLUMN presence")
        connection.execute("ALTER TABLE tombstones DROP COLUMN events_left")
        connection.execute("DROP INDEX events_of_no_job, shards_given_up")
        connection.execute("ALTER TABLE seen DROP COLUMN valid_until")
        connection.execute(
            "DROP INDEX jobs_by_key, jobs_by_result, jobs_given_up, shards_retried, jobs_by_gateway"
        )
        connection.execute("ALTER TABLE jobs ADD UNIQUE (idem_key)")
        connection.execute("CREATE INDEX jobs_by_result ON jobs (id)")
        connection.execute("CREATE INDEX inbox_open ON inbox (received_at)")
        connection.execute("ALTER TABLE results DROP CONSTRAINT results_pkey")
        connection.execute("ALTER TABLE results ADD PRIMARY KEY (assignment_id)")
        connection.execute("CREATE INDEX results_by_job ON results (job_id, first_item)")
        connection.execute("ALTER TABLE seen DROP CONSTRAINT seen_pkey")
        connection.execute("ALTER TABLE seen ADD PRIMARY KEY (jti)")
        connection.execute("CREATE INDEX seen_expiry ON seen (exp)")
        connection.execute(
            "INSERT INTO nodes (peer_id, name, public_key, first_seen, last_seen) "
            "VALUES ('12D3KooWmet', 'tablet', 'x', 1, 1)"
        )
        for number, state in enumerate(("failed", "running")):
            job_id, ended_at = f"01KA{number}", 9.0 if state == "failed" else None
            connection.execute(
                "INSERT INTO jobs (id, state, gateway, epoch, owner, spec, module_sha, "
                "module_bytes, dataset_sha, dataset_bytes, n_items, range_start, created_at, "
                "finished_at, n_shards, n_retries) "
                "VALUES (%s, %s, 'g', 1, 'o', '{}', 'm', 1, 'd', 1, 100, 0, 1, %s, 3, 0)",
                (job_id, state, ended_at),
            )
            for index, shard_state in enumerate(("done", "dead", "done")):
                connection.execute(
                    "INSERT INTO shards (job_id, idx, state, first_item, n_items, attempts) "
                    "VALUES (%s, %s, %s, %s, 20, 1)",
                    (job_id, index, shard_state, 20 * index),
                )
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    assert await described() == new
    with closing(psycopg.connect(postgres_url)) as connection:
        rows = connection.execute("SELECT name, admission FROM nodes").fetchall()
        assert rows == [("tablet", "approved")]
        progress = connection.execute(
            "SELECT state, n_done_items, n_done_shards, n_failed_items FROM jobs ORDER BY id"
        ).fetchall()
        assert progress == [("failed", 40, 2, 0), ("running", 0, 0, 0)]
        stored = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        assert stored == [(schema.HEAD,)]


def pg_schema(connection: Connection) -> Any:
    """Return every column, key and index of a PostgreSQL, and what differs from the models."""
    columns = connection.execute(
        text(
            "SELECT table_name, column_name, data_type, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        )
    ).all()
    indexes = connection.execute(
        text("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexdef")
    ).all()
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return columns, indexes, compare_metadata(context, schema.metadata)


async def test_the_database_as_it_was_is_kept_beside(tmp_path: Path) -> None:
    path = old_database(tmp_path, "0001")
    with closing(sqlite3.connect(path)) as database:
        before = sorted(database.iterdump())
    store = await opened(path)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "swarm_hub.db.schema-0001")) as copy:
        assert sorted(copy.iterdump()) == before


async def test_a_failed_upgrade_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_database(tmp_path, "0001")
    with closing(sqlite3.connect(path)) as database:
        # The last step of the upgrade meets a name that is taken.
        database.execute("CREATE INDEX shards_open ON shards (state)")
        before = sorted(database.iterdump())
    with pytest.raises(StoreError, match="shards_open"):
        await opened(path)
    with closing(sqlite3.connect(path)) as database:
        assert sorted(database.iterdump()) == before


async def test_a_database_at_head_is_opened_without_alembic(tmp_path: Path) -> None:
    store = await opened(tmp_path / "swarm_hub.db")
    await store.close()
    program = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from swarm_hub.storage import Store\nfrom swarm_hub.util.clock import Clock\n"
        "async def main():\n"
        "    store = Store.on_file(Path(sys.argv[1]), Clock())\n"
        "    await store.open()\n    await store.close()\n"
        "asyncio.run(main())\nassert not [m for m in sys.modules if m.startswith('alembic')]\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "swarm_hub.db")
    )
    assert await process.wait() == 0
