"""What must hold of a swarm's databases whoever was killed: each job once, each shard once.

    broken = broken_gateway(database, {job_id: n_items}) + broken_worker(database)

Each function returns a sentence for every rule that is broken, and only reads, so the hubs may run.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from swarm_hub.util.hashing import sha256_hex
from tests.helpers.promises import look

# Rules of any gateway at any time, as queries for what breaks them.
_GATEWAY: Final = {
    "a shard has two results": (
        "SELECT job_id, idx FROM results GROUP BY job_id, idx HAVING count(*) > 1"
    ),
    "a shard is told done twice": (
        "SELECT job_id, json_extract(data, '$.index') FROM events WHERE event_type = 'shard_done' "
        "GROUP BY 1, 2 HAVING count(*) > 1"
    ),
    "a result is not told": (
        "SELECT job_id, idx FROM results EXCEPT SELECT job_id, json_extract(data, '$.index') "
        "FROM events WHERE event_type = 'shard_done'"
    ),
    "a done shard has no result": (
        "SELECT job_id, idx FROM shards WHERE state = 'done' AND accepted_assignment NOT IN "
        "(SELECT assignment_id FROM results)"
    ),
    "a result is not its shard's": (
        "SELECT r.assignment_id FROM results r LEFT JOIN shards s USING (job_id, idx) "
        "WHERE s.accepted_assignment IS NOT r.assignment_id OR s.state <> 'done' "
        "OR s.first_item <> r.first_item OR s.n_items <> r.n_items"
    ),
    "a result lacks its receipt": (
        "SELECT assignment_id FROM results WHERE receipt IS NOT NULL AND receipt NOT IN "
        "(SELECT sha FROM receipts WHERE job_id = results.job_id)"
    ),
    "items are in two shards": (
        "SELECT a.job_id, a.idx, b.idx FROM shards a JOIN shards b ON a.job_id = b.job_id "
        "AND a.idx < b.idx AND a.first_item < b.first_item + b.n_items "
        "AND b.first_item < a.first_item + a.n_items "
        "WHERE a.state <> 'split' AND b.state <> 'split'"
    ),
    "an item is in no shard": (
        "SELECT job_id FROM shards GROUP BY job_id HAVING max(first_item + n_items) "
        "<> coalesce(sum(n_items) FILTER (WHERE state <> 'split'), 0)"
    ),
    "a completed job has items that are neither done nor skipped": (
        "SELECT j.id, j.n_items, sum(s.n_items) FROM jobs j LEFT JOIN shards s "
        "ON s.job_id = j.id AND s.state IN ('done', 'skipped') WHERE j.state = 'completed' "
        "GROUP BY j.id HAVING coalesce(sum(s.n_items), 0) <> j.n_items"
    ),
    "an ended job has another number of items failed than were skipped": (
        "SELECT id, n_failed_items, coalesce(sum(s.n_items), 0) FROM jobs LEFT JOIN shards s "
        "ON s.job_id = id AND s.state = 'skipped' WHERE finished_at IS NOT NULL "
        "GROUP BY id HAVING n_failed_items <> coalesce(sum(s.n_items), 0)"
    ),
    "a job ended twice": (
        "SELECT job_id FROM events WHERE event_type IN "
        "('job_completed', 'job_failed', 'job_cancelled') GROUP BY 1 HAVING count(*) > 1"
    ),
    "a job was queued twice": (
        "SELECT job_id FROM events WHERE event_type = 'job_queued' GROUP BY 1 HAVING count(*) > 1"
    ),
    "an ended job is not told so": (
        "SELECT id FROM jobs WHERE finished_at IS NOT NULL AND id NOT IN (SELECT job_id FROM "
        "events WHERE event_type = 'job_' || jobs.state)"
    ),
    "an ended job has another number of items done than its shards": (
        "SELECT id, n_done_items, n_done_shards, count(idx), coalesce(sum(s.n_items), 0) FROM jobs "
        "LEFT JOIN shards s ON s.job_id = id AND s.state = 'done' WHERE finished_at IS NOT NULL "
        "GROUP BY id HAVING n_done_items <> coalesce(sum(s.n_items), 0) "
        "OR n_done_shards <> count(idx)"
    ),
    "a number of events is missing": (
        "SELECT count(*), min(seq), max(seq) FROM events HAVING count(*) <> max(seq) - min(seq) + 1"
    ),
}
_ANY: Final = {
    "a foreign key is broken": "PRAGMA foreign_key_check",
    "the file is damaged": "SELECT quick_check FROM pragma_quick_check WHERE quick_check <> 'ok'",
}
_WORKER: Final = {
    "an assignment is both open and finished": (
        "SELECT assignment_id FROM inbox JOIN outbox USING (assignment_id)"
    ),
}


def broken_gateway(database: Path, completed: Mapping[str, int]) -> list[str]:
    """Return what is broken at a gateway whose `completed` jobs (id → number of items) are done.

    The jobs are those of `range` modules that count their items, so the sum is that number.
    """
    with closing(look(database)) as connection:
        found = list(_broken(connection, {**_ANY, **_GATEWAY}))
        for job_id, n_items in completed.items():
            found += _incomplete(connection, job_id, n_items)
    return found


def broken_worker(database: Path) -> list[str]:
    """Return what is broken at a worker, running or killed."""
    with closing(look(database)) as connection:
        found = list(_broken(connection, {**_ANY, **_WORKER}))
        for assignment_id, sha, body in connection.execute(
            "SELECT assignment_id, sha, body FROM outbox"
        ):
            if body is not None and sha256_hex(body) != sha:
                found.append(f"the outbox has other bytes for {assignment_id}")
    return found


def undelivered(databases: Iterable[Path]) -> int:
    """Return how many assignments workers still hold, open or finished."""
    count = 0
    for database in databases:
        with closing(look(database)) as connection:
            query = "SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)"
            count += connection.execute(query).fetchone()[0]
    return count


def _incomplete(connection: sqlite3.Connection, job_id: str, n_items: int) -> Iterator[str]:
    query = "SELECT state, result_inline, n_items FROM jobs WHERE id = ?"
    row = connection.execute(query, (job_id,)).fetchone()
    if row is None:
        yield f"job {job_id} is lost"
        return
    state, result, stored = row
    if (state, stored) != ("completed", n_items) or json.loads(result or b"null") != n_items:
        yield f"job {job_id}: {state} with {result!r}, expected {n_items}"
    query = "SELECT coalesce(sum(n_items), 0) FROM results WHERE job_id = ?"
    (counted,) = connection.execute(query, (job_id,)).fetchone()
    if counted != n_items:
        yield f"job {job_id}: the results are of {counted} items, not of {n_items}"


def _broken(connection: sqlite3.Connection, rules: Mapping[str, str]) -> Iterator[str]:
    for what, query in rules.items():
        for row in connection.execute(query):
            yield f"{what}: {row}"
