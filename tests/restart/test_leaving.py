"""A worker process that is told to stop by SIGTERM or Ctrl-C, in the middle of a job."""

import asyncio
import signal
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from tests.conftest import until
from tests.restart.swarms import results_of, started

# Nothing comes back by a deadline within the time of this test.
PATIENT = "sla: {platform: fixed, deadline: 120}\n"
SHARDS = 600


def left_behind(hub: LocalHub) -> tuple[int, int]:
    query = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox)"
    with closing(sqlite3.connect(hub.folder / "swarm_hub.db")) as database:
        inbox, outbox = database.execute(query).fetchone()
        return int(inbox), int(outbox)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_told_to_stop_hands_its_queue_over_at_once(
    local: LocalSwarm, modules: dict[str, bytes], signum: signal.Signals
) -> None:
    gateway, (leaving, other), client = await started(local, 2, PATIENT)
    async with client:
        job_id = await client.submit(modules["spin"], range(5 * SHARDS), shard_size=5, reduce="sum")

        async def fewest_assignments_of_a_node() -> int:
            nodes = {node["node_id"]: node["assignments"] for node in await client.nodes()}
            return min(nodes[leaving.peer_id], nodes[other.peer_id])

        await until(fewest_assignments_of_a_node, lambda count: count >= 10)
        assert leaving.process is not None
        leaving.process.send_signal(signum)
        assert await asyncio.to_thread(leaving.process.wait, 60) == 0
        # Nothing that it waited for at its stop was given up, so it stopped as soon as it could.
        for late in ("took more than", "did not stop within", "did not finish before"):
            assert late not in leaving.log()
        async with asyncio.timeout(60):
            status = await client.wait(job_id)
        assert (status["state"], status["result"]) == ("completed", 5 * SHARDS)
        shards = await client.shards(job_id)
    assert results_of(gateway, job_id) == Counter(range(SHARDS))
    assert left_behind(leaving) == (0, 0)
    attempts = [each for shard in shards for each in shard["attempts"]]
    given_back = [each for each in attempts if each["reason"] == "the hub is stopping"]
    assert given_back
    assert {each["node_id"] for each in given_back} == {leaving.peer_id}
    assert [each for each in attempts if each["state"] == "expired"] == []
