"""The verdict of a soak finds what must not be; the soak itself is run by script/soak."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.storage import Store
from swarm_hub.util.clock import Clock
from tests.soak.load import Wanted
from tests.soak.stores import quick_check, sqlite_rows
from tests.soak.verdict import judge

JOB = "INSERT INTO jobs VALUES (?, 'completed', 'g', 1, ?, '', '', '{}', '', 0, '', 0, 2, 0, 0, 0, 1, 1, '[]', '', 0, x'', 2, 0, 0, NULL, 2, 2, 0)"  # noqa: E501
RESULT = "INSERT INTO results VALUES (?, 'a', ?, ?, 1, 'n', '', 1, x'', 0, 0, 0, 0, '', 1, NULL)"
EVENT = "INSERT INTO events VALUES (?, ?, 'a', 0, ?)"
SUBMITTED = [Wanted("spin", None, {}, 2, "key", job_id="a", state="completed")]


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Return the store of a gateway that finished a job of two shards."""
    path = tmp_path / "swarm_hub.db"
    store = Store.on_file(path, Clock())
    await store.open()
    await store.close()
    change(path, JOB, "a", "key")
    for index in (0, 1):
        change(path, RESULT, f"a.{index}.1", index, index)
    told = ["job_queued", "shard_done", "shard_done", "job_completed"]
    for seq, kind in enumerate(told, 1):
        change(path, EVENT, seq, kind, f'{{"index": {max(0, seq - 2)}}}')
    return path


def change(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


async def test_a_whole_store_is_right(database: Path) -> None:
    with sqlite_rows(database) as rows:
        verdict = judge(rows, SUBMITTED)
    assert (verdict.shards, verdict.lost, verdict.double, verdict.problems) == (2, 0, 0, [])
    assert quick_check(database) is None


async def test_a_result_that_others_outvoted_is_not_double(database: Path) -> None:
    change(
        database,
        "INSERT INTO results SELECT 'a.1.2', job_id, idx, first_item, n_items, node_id, sha,"
        " size_bytes, body, wall_s, cpu_s, NULL, NULL, '', 0, NULL FROM results WHERE idx = 1",
    )
    change(
        database,
        "INSERT INTO nodes (peer_id, name, first_seen, last_seen, contradictions)"
        " VALUES ('liar', '', 0, 0, 3)",
    )
    with sqlite_rows(database) as rows:
        verdict = judge(rows, SUBMITTED)
    assert (verdict.shards, verdict.lost, verdict.double, verdict.problems) == (2, 0, 0, [])
    assert verdict.lies == 3


@pytest.mark.parametrize(
    ("statement", "lost", "double", "found"),
    [
        ("INSERT INTO results SELECT 'a.1.2', job_id, idx, first_item, n_items, node_id, sha,"
         " size_bytes, body, wall_s, cpu_s, NULL, NULL, '', 1, NULL FROM results WHERE idx = 1",
         0, 1, "3 of 2 items"),
        ("DELETE FROM results WHERE idx = 1", 1, 0, "other shards are in results"),
        ("DELETE FROM events WHERE seq = 2", 0, 0, "3 events, seq 1 to 4"),
        ("UPDATE events SET data = '{\"index\": 1}' WHERE seq = 2", 0, 1, "other shards"),
        ("UPDATE events SET event_type = 'job_completed' WHERE seq = 1", 0, 0, "its events say"),
        ("UPDATE jobs SET state = 'cancelled'", 0, 0, "its client was told completed"),
        ("DELETE FROM jobs", 0, 0, "was accepted and is gone"),
        ("UPDATE jobs SET id = 'b'", 2, 0, "is nobody's"),
        ("UPDATE events SET event_type = 'node_banned' WHERE seq = 1", 0, 0, "node_banned"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_found(
    database: Path, statement: str, lost: int, double: int, found: str
) -> None:
    change(database, statement)
    with sqlite_rows(database) as rows:
        verdict = judge(rows, SUBMITTED)
    assert (verdict.lost, verdict.double) == (lost, double)
    assert [problem for problem in verdict.problems if found in problem], verdict.problems
