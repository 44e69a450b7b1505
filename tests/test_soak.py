"""The verdict of a soak finds what must not be; the soak itself is run by script/soak."""

import dataclasses
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.storage import Store
from swarm_hub.util.clock import Clock
from tests.helpers.swarms import local_swarm
from tests.soak.follower import Follower
from tests.soak.jobs import Wanted, wrong_end
from tests.soak.part import Part, Wait
from tests.soak.stores import quick_check, sqlite_rows
from tests.soak.verdict import judge

JOB = "INSERT INTO jobs VALUES (?, 'completed', 'g', 1, ?, '', '', '{}', '', 0, '', 0, 2, 0, 0, 0, 1, 1, '[]', '', 0, x'', 2, 0, 0, NULL, 2, 2, 0, NULL, NULL, NULL)"  # noqa: E501
RESULT = "INSERT INTO results VALUES (?, 'a', ?, ?, 1, 'n', '', 1, x'', 0, 0, 0, 0, '', 1, NULL)"
SHARD = "INSERT INTO shards VALUES ('a', ?, ?, ?, ?, 1, ?)"
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
        change(path, SHARD, index, "done", index, 1, f"a.{index}.1")
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


async def test_items_of_shards_that_were_split_or_skipped_are_in_one_place(database: Path) -> None:
    """The second shard of items 1 to 3 was split, as was a half of it; item 2 was left out."""
    change(database, "UPDATE jobs SET n_items = 4, n_failed_items = 1")
    change(database, "UPDATE shards SET state = 'split', n_items = 3 WHERE idx = 1")
    change(database, "DELETE FROM results WHERE idx = 1")
    change(database, "DELETE FROM events WHERE seq >= 3")
    parts = [(2, "done", 1, 1), (3, "split", 2, 2), (4, "skipped", 2, 1), (5, "done", 3, 1)]
    for part in parts:
        change(database, SHARD, *part, None)
    for seq, index in enumerate((2, 5), 3):
        change(database, RESULT, f"a.{index}.1", index, index)
        change(database, EVENT, seq, "shard_done", f'{{"index": {index}}}')
    change(database, EVENT, 5, "job_completed", "{}")
    wanted = dataclasses.replace(SUBMITTED[0], bad=(2,))
    with sqlite_rows(database) as rows:
        verdict = judge(rows, [wanted])
        other = judge(rows, [dataclasses.replace(wanted, bad=(1,))])
    assert (verdict.shards, verdict.lost, verdict.double, verdict.problems) == (3, 0, 0, [])
    assert (verdict.split, verdict.skipped) == (2, 1)
    assert other.problems == ["job a: [2] skipped, expected (1,)"]


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
        ("UPDATE shards SET state = 'assigned' WHERE idx = 1", 1, 0, "is still assigned"),
        ("UPDATE shards SET state = 'split' WHERE idx = 1", 1, 0, "has a result that counts"),
        ("UPDATE shards SET state = 'skipped' WHERE idx = 1", 0, 0, "1 items skipped, told 0"),
        ("UPDATE shards SET first_item = 0 WHERE idx = 1", 0, 0, "begins at 0, expected 1"),
        ("DELETE FROM shards WHERE idx = 0", 1, 0, "begins at 1, expected 0"),
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


ENDS = Wanted("m", None, {}, None, "key")
ENDLESS = dataclasses.replace(ENDS, fails="it does not end")
FAILS = dataclasses.replace(ENDS, bad=(7,))
SKIPS = dataclasses.replace(FAILS, spec={"on_error": "skip"})


@pytest.mark.parametrize(
    ("wanted", "state", "failures", "n_failed", "right"),
    [
        (ENDS, "completed", [], 0, True),
        (ENDS, "failed", ["item 7: trap"], 0, False),
        (ENDS, "cancelled", [], 0, False),
        (dataclasses.replace(ENDS, cancel=True), "cancelled", [], 0, True),
        (ENDLESS, "failed", ["it does not end: 3 attempts took"], 0, True),
        (ENDLESS, "failed", ["item 0: timeout"], 0, False),
        (ENDLESS, "completed", [], 0, False),
        (FAILS, "failed", ["item 7: trap; on a"], 0, True),
        (FAILS, "failed", ["items 4 to 8: trap; on a"], 0, True),
        (FAILS, "failed", ["items 8 to 70: trap; on a"], 0, False),
        (FAILS, "failed", ["internal: 7"], 0, False),
        (FAILS, "completed", [], 1, False),
        (SKIPS, "completed", [], 1, True),
        (SKIPS, "completed", [], 2, False),
        (SKIPS, "failed", ["item 7: trap; on a"], 0, False),
    ],
)
def test_how_a_job_may_end(
    wanted: Wanted, state: str, failures: list[str], n_failed: int, right: bool
) -> None:
    status = {"state": state, "failures": failures, "progress": {"items_failed": n_failed}}
    assert (wrong_end(wanted, status) is None) == right


def test_a_wait_is_told_with_what_a_gateway_was_away_of_it(tmp_path: Path) -> None:
    part = Part("part", local_swarm(tmp_path), tmp_path)
    part.away = [(1.0, 12.0), (11.0, 13.0), (20.0, 25.0), (90.0, 99.0)]
    part.waited(10.0, 22.0)
    assert part.waits == [Wait(12.0, 5.0)]


def test_a_follower_misses_no_number_and_hears_none_twice(tmp_path: Path) -> None:
    part = Part("part", local_swarm(tmp_path), tmp_path)
    follower = Follower(part, random.Random(1))
    for seq in (1, None, 2, 4, 4, 5):
        follower.heard(seq)
    assert part.problems == [
        "a follower heard event 4 after 2", "a follower heard event 4 after 4",
    ]  # fmt: skip
