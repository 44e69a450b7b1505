"""What a gateway of a shared store does again and again costs no more when others have much."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from swarm_hub.storage import Store
from swarm_hub.storage.queries import leases, nodes
from swarm_hub.util.clock import Clock

N_JOBS = 20_000
N_NODES = 10_000
# Of 8 KiB; the jobs take about 500, the nodes 200.
BLOCKS_MAX = 40
_JOBS = """
INSERT INTO jobs (id, state, gateway, epoch, owner, spec, module_sha, module_bytes, dataset_sha,
    dataset_bytes, n_items, range_start, created_at, n_shards, n_retries)
SELECT 'job ' || n, 'running', 'busy', 1, 'o', '{}', 'm', 1, 'd', 1, 1, 0, 1, 1, 0
FROM generate_series(1, :n) AS n
"""
_NODES = """
INSERT INTO nodes (peer_id, name, first_seen, last_seen, standing_at)
SELECT 'node ' || n, 'node', 1, 1, 1 FROM generate_series(1, :n) AS n
"""


@pytest.fixture
async def crowded(tmp_path: Path, postgres_url: str) -> AsyncIterator[Store]:
    """Return the store of a gateway that has nothing to do, beside one that has."""
    store = Store.at(postgres_url, tmp_path, Clock())
    await store.open()

    def fill(connection: Connection) -> None:
        connection.execute(text(_JOBS), {"n": N_JOBS})
        connection.execute(text(_NODES), {"n": N_NODES})
        connection.execute(text("ANALYZE"))

    await store.change(fill)
    until = await store.read(leases.store_now) + 3600
    await store.commit([leases.register(name, until) for name in ("busy", "idle")])
    yield store
    await store.close()


def blocks(connection: Connection, queries: Callable[[Connection], Any]) -> list[tuple[str, int]]:
    """Return the statements of some queries, with how many blocks each touches."""
    sent: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        sent.append((statement, values))

    event.listen(connection, "before_cursor_execute", note)
    queries(connection)
    event.remove(connection, "before_cursor_execute", note)
    found = []
    for statement, values in sent:
        if not statement.startswith(("SELECT", "WITH")):
            continue
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        (plan,) = connection.exec_driver_sql(explain, values).scalar_one()
        top = plan["Plan"]
        found.append((statement, top["Shared Hit Blocks"] + top["Shared Read Blocks"]))
    return found


ASKED_AGAIN_AND_AGAIN: tuple[Callable[[Connection], Any], ...] = (
    lambda connection: leases.look(connection, "idle"),
    lambda connection: leases.owned(connection, "idle"),
    lambda connection: leases.adopt(connection, "idle", starting=False, limit=50),
    lambda connection: nodes.judged(connection, 65.0),
)


async def test_what_is_asked_again_and_again_touches_few_blocks(crowded: Store) -> None:
    for queries in ASKED_AGAIN_AND_AGAIN:
        found = await crowded.change(blocks, queries)
        assert found
        assert [each for each in found if each[1] > BLOCKS_MAX] == []


async def test_the_jobs_of_a_gateway_that_is_gone_are_taken_over_in_batches(
    crowded: Store,
) -> None:
    assert not (await crowded.read(leases.look, "idle")).orphaned
    await crowded.commit([leases.register("busy", 0.0)])
    assert (await crowded.read(leases.look, "idle")).orphaned
    taken = await crowded.change(leases.adopt, "idle", starting=False, limit=50)
    assert len(taken) == 50
    assert set(taken.values()) == {2}
    assert await crowded.read(leases.owned, "idle") == taken


async def test_only_nodes_that_were_judged_lately_are_read(crowded: Store) -> None:
    assert await crowded.read(nodes.judged, 60.0) == []
    await crowded.commit([nodes.judge([("node 7", True), ("node 9", False)])])
    found = {each.peer_id: each for each in await crowded.read(nodes.judged, 60.0)}
    assert {name: each.agreements for name, each in found.items()} == {"node 7": 1, "node 9": 0}
