"""A fleet is upgraded one gateway at a time: the older ones go on beside a newer schema."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.exceptions import StoreError
from swarm_hub.storage import Store, schema
from swarm_hub.util.clock import Clock
from tests.conftest import Swarm
from tests.helpers.old_databases import old_database
from tests.helpers.postgres import PostgresServer
from tests.helpers.rest import finished, submit

# Before this one no fleet was promised that it could be upgraded like this.
_SINCE = "0012"
_ADD = "ALTER TABLE {} ADD COLUMN added_later TEXT NOT NULL DEFAULT 'later'"


def declared(path: Path) -> tuple[dict[str, dict[str, Any]], set[tuple[str, str]]]:
    """Return the columns of each table (type, NOT NULL, default, key), and what is unique in it."""
    with closing(sqlite3.connect(path)) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        columns = {
            table: {
                name: rest for _, name, *rest in database.execute(f"PRAGMA table_info({table})")
            }
            for table in names
        }
        unique = {
            (table, name)
            for table in names
            for _, name, is_unique, *_ in database.execute(f"PRAGMA index_list({table})")
            if is_unique
        }
    return columns, unique


@pytest.mark.parametrize(
    "revision", [each for each in schema.REVISIONS[:-1] if each >= _SINCE]
)  # fmt: skip
async def test_a_newer_schema_keeps_all_that_an_older_gateway_reads_and_writes(
    tmp_path: Path, revision: str
) -> None:
    (tmp_path / "old").mkdir()
    old_columns, old_unique = declared(old_database(tmp_path / "old", revision))
    store = Store.on_file(tmp_path / "new.db", Clock())
    await store.open()
    await store.close()
    columns, unique = declared(tmp_path / "new.db")
    for table, known in old_columns.items():
        assert known.items() <= columns.get(table, {}).items(), f"{table} lost or changed columns"
        for name in columns[table].keys() - known.keys():
            _type, not_null, default, key = columns[table][name]
            must_be_filled = key or (not_null and default is None)
            assert not must_be_filled, f"an older gateway does not fill {table}.{name}"
    added = {(table, name) for table, name in unique - old_unique if table in old_columns}
    assert not added, "what is unique only now, an older gateway may write twice"


async def test_an_older_gateway_works_on_beside_a_newer_schema_but_does_not_start_on_it(
    swarm: Swarm, modules: dict[str, bytes], postgres_url: str, postgres_server: PostgresServer
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    gateway = await swarm.gateway(extra=extra)
    await swarm.worker("worker")

    async def assert_works() -> None:
        spec = {"split": "range", "shard_size": 50, "reduce": "sum"}
        _, body = await submit(gateway, modules["primes"], b"0 100\n", spec)
        assert (await finished(gateway, body["job_id"]))["state"] == "completed"

    # Its statements are prepared by then.
    await assert_works()
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as database:
        for table in schema.metadata.tables:
            database.execute(_ADD.format(table))  # type: ignore[call-overload]
        database.execute("CREATE TABLE made_later (id TEXT PRIMARY KEY)")
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    await assert_works()
    with pytest.raises(StoreError, match="has schema 9999, this swarm_hub knows up to"):
        await swarm.gateway("second", extra=extra)
