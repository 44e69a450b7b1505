"""Every index is paid for by each write, so each is one that a statement uses."""

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from swarm_hub.models.job import JobState
from swarm_hub.storage import Store, schema
from swarm_hub.storage.queries import (
    automations,
    content,
    events,
    failures,
    jobs,
    leases,
    listing,
    nodes,
    pruning,
    receipts,
    recovery,
    replay_cache,
    shard_results,
    takeover,
)
from swarm_hub.storage.queries.listing import JobFilter
from tests.helpers.stored import put_job

_INDEX = re.compile(r" INDEX (\w+)")


def read_all(connection: Connection) -> None:
    """Run what looks for rows of tables that have indexes."""
    automations.due(connection, 1.0, 10)
    jobs.by_idempotency_key(connection, "key")
    listing.page(connection, JobFilter(states=frozenset({JobState.FAILED})), None, 10)
    listing.page(connection, JobFilter(states=frozenset({JobState.RUNNING})), None, 10)
    leases.look(connection, "gateway")
    content.result_blobs(connection, 10)
    content.result_size(connection, "sha")
    events.any_older(connection, 1.0)
    events.story(connection, "job", 0, 10)
    failures.page(connection, "job", -1, 10)
    nodes.judged(connection, 60.0)
    pruning.read_or_ended(connection, 1.0, 1.0, 10)
    pruning.beyond_newest(connection, 10, 1.0, 10)
    pruning.oldest(connection, 1.0, 10)
    pruning.any_unswept(connection)
    pruning.any_left_events(connection, 1.0)
    pruning.any_tombstone(connection, 1.0)
    pruning.unused_blobs(connection, "", 1e12, 10)
    receipts.page(connection, "job", None, None, 10)
    recovery.unfinished(connection, "job")
    recovery.unconfirmed_of(connection, "job")
    takeover.left_jobs(connection, ["job"])
    replay_cache.unexpired(connection, 1.0)
    shard_results.of_shard(connection, "job", 0)
    shard_results.page(connection, "job", -1, 10)


def plans(connection: Connection, queries: Callable[[Connection], None]) -> list[str]:
    """Return the steps by which SQLite runs queries."""
    driver: Any = connection.connection.driver_connection
    said: list[str] = []
    driver.set_trace_callback(said.append)
    queries(connection)
    driver.set_trace_callback(None)
    return [
        row[3]
        for text in said
        if text.startswith(("SELECT", "WITH"))
        for row in driver.execute(f"EXPLAIN QUERY PLAN {text}")
    ]


async def test_every_index_is_used(store: Store) -> None:
    await put_job(store, "job", ended_at=None, n_shards=1)
    _, blob = await store.blobs.put(b"unused", 1.0)
    await store.commit([blob])
    steps = await store.read(plans, read_all)
    used = {name for step in steps for name in _INDEX.findall(step)}
    # Those of a shared store alone are used by what tests/storage/queries/test_many_jobs.py plans.
    declared = {
        index.name
        for table in schema.metadata.tables.values()
        for index in table.indexes
        if "dialect" not in index.info
    }
    assert declared - used == set()
    # Their keys do what indexes did.
    assert (
        "SEARCH results USING INDEX sqlite_autoindex_results_1 (job_id=? AND first_item>?)" in steps
    )
    assert "SEARCH seen USING PRIMARY KEY (exp>?)" in steps
