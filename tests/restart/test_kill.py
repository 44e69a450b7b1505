"""Real processes over libp2p, killed as a phone's system or a power cut would."""

import asyncio
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError
from tests.conftest import until
from tests.restart.swarms import results_of, started

pytestmark = pytest.mark.usefixtures("warm_hubs")
N_SHARDS = 16
ITEMS_A_SHARD = 150  # `spin` needs about a tenth of a second for them
SPEC: dict[str, Any] = {"shard_size": ITEMS_A_SHARD, "reduce": "sum"}


async def shards_done(client: SwarmClient, job_id: str) -> int:
    try:
        return int((await client.status(job_id))["progress"]["shards_done"])
    except UnreachableError:
        return -1


async def assert_whole(gateway: LocalHub, client: SwarmClient, job_id: str) -> dict[str, Any]:
    """Wait for the job; its answer is right and each shard counted once."""
    async with asyncio.timeout(60):
        status = await client.wait(job_id)
    assert (status["state"], status["result"]) == ("completed", N_SHARDS * ITEMS_A_SHARD), status
    assert results_of(gateway, job_id) == Counter(range(N_SHARDS))
    kinds = [
        event["data"]["index"]
        for event in await story(client, job_id)
        if event["event_type"] == "shard_done"
    ]
    assert sorted(kinds) == list(range(N_SHARDS))
    return status


async def story(client: SwarmClient, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    events = client.events(since=0)
    async for event in events:
        if event["data"].get("job_id") == job_id:
            found.append(event)
            if event["event_type"] == "job_completed":
                break
    await events.aclose()  # type: ignore[attr-defined]
    return found


async def test_a_worker_killed_in_the_middle_costs_nothing_but_time(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway, workers, client = await started(local, 2)
    async with client:
        job_id = await client.submit(modules["spin"], range(N_SHARDS * ITEMS_A_SHARD), **SPEC)
        await until(lambda: shards_done(client, job_id), lambda done: done >= 2)
        workers[0].kill()
        status = await assert_whole(gateway, client, job_id)
        assert status["progress"]["retries"] >= 1
        by_id = {node["node_id"]: node["state"] for node in await client.nodes()}
        assert by_id[workers[0].peer_id] == "down"


async def test_a_gateway_killed_in_the_middle_finishes_its_job_after_its_restart(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway, _, client = await started(local, 2)
    async with client:
        job_id = await client.submit(modules["spin"], range(N_SHARDS * ITEMS_A_SHARD), **SPEC)
        await until(lambda: shards_done(client, job_id), lambda done: done >= 2)
        before = results_of(gateway, job_id)
        gateway.kill()
        gateway.start()
        await assert_whole(gateway, client, job_id)
        assert before <= results_of(gateway, job_id)


async def test_an_acknowledged_job_survives_a_kill_at_once(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up(client), bool)
        ids = [
            await client.submit(modules["primes"], range(100), idempotency_key=f"key-{number}")
            for number in range(5)
        ]
        gateway.kill()
        gateway.start()
        await until(lambda: up(client), bool)
        assert {job["job_id"] for job in await client.jobs()} == set(ids)
        again = await client.submit(modules["primes"], range(100), idempotency_key="key-3")
        assert again == ids[3]
        local.start_worker("worker", gateway)
        for job_id in ids:
            status = await client.wait(job_id)
            assert status["result"] == 25


async def up(client: SwarmClient) -> bool:
    try:
        return (await client.health())["state"] == "running"
    except UnreachableError:
        return False


async def test_a_worker_delivers_after_its_restart_what_it_had_finished(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    """The gateway is away while the worker finishes, then both die and come back."""
    gateway, (worker,), client = await started(local, 1)
    async with client:
        items = range(4 * ITEMS_A_SHARD)
        job_id = await client.submit(modules["spin"], items, **SPEC)
        await until(lambda: shards_done(client, job_id), lambda done: done >= 1)
        gateway.kill()

        async def finished_alone() -> int:
            with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
                (count,) = database.execute("SELECT count(*) FROM outbox").fetchone()
                (waiting,) = database.execute("SELECT count(*) FROM inbox").fetchone()
            return int(count) if waiting == 0 else 0

        kept = await until(finished_alone, lambda count: count >= 1)
        worker.kill()
        worker.start()
        gateway.start()
        async with asyncio.timeout(60):
            status = await client.wait(job_id)
        assert status["result"] == 4 * ITEMS_A_SHARD
        # What waited in the outbox was counted as it was, not computed again.
        attempts = {shard["index"]: len(shard["attempts"]) for shard in await client.shards(job_id)}
        assert sum(count == 1 for count in attempts.values()) >= kept

        async def undelivered() -> int:
            with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
                return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])

        await until(undelivered, lambda count: count == 0)


async def test_what_was_cancelled_while_a_worker_was_away_is_not_run(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    """The worker says what it holds when it is back, and drops what the gateway withdrew."""
    _, (worker,), client = await started(local, 1)
    async with client:
        # Longer than the test may take: what is run again would still be there.
        job_id = await client.submit(modules["spin"], range(400_000), shard_size=100_000)

        async def assignments_in_inbox() -> int:
            with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
                return int(database.execute("SELECT count(*) FROM inbox").fetchone()[0])

        await until(assignments_in_inbox, lambda count: count >= 1)
        worker.kill()
        await client.cancel(job_id)
        assert await assignments_in_inbox() >= 1
        worker.start()
        await until(assignments_in_inbox, lambda count: count == 0)
        assert (await client.status(job_id))["state"] == "cancelled"


async def test_sigterm_is_exit_code_0_with_work_under_way(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway, (worker,), client = await started(local, 1)
    async with client:
        await client.submit(modules["spin"], range(N_SHARDS * ITEMS_A_SHARD), **SPEC)
    for hub in (worker, gateway):
        assert hub.process is not None
        hub.process.terminate()
        assert await asyncio.to_thread(hub.process.wait, 60) == 0
        assert "Traceback" not in hub.log()


async def test_a_second_hub_on_the_same_directory_is_refused_with_the_pid(
    local: LocalSwarm,
) -> None:
    gateway, _, _ = await started(local, 0)

    def second() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "swarm_hub", "run", "-c", str(gateway.folder)],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up(client), bool)
        refused = await asyncio.to_thread(second)
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert f"process {gateway.pid}" in line
        assert await up(client)


async def test_a_gateway_killed_while_it_looks_for_bad_items_leaves_out_just_those(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway, _, client = await started(local, 3)
    bad = {7, 150, 151, 399}
    rows = [b"X\n" if number in bad else b"%d\n" % number for number in range(400)]
    async with client:
        job_id = await client.submit(modules["cat_but_x"], b"".join(rows), on_error="skip")

        async def has_split() -> bool:
            return any(shard["state"] == "split" for shard in await client.shards(job_id))

        await until(has_split, bool)
        gateway.kill()
        gateway.start()
        async with asyncio.timeout(60):
            status = await client.wait(job_id)
        assert (status["state"], status["failed_items"]) == ("completed", len(bad)), status
        assert await client.result(job_id) == b"".join(row for row in rows if row != b"X\n")
        assert [each["first_item"] async for each in client.failures(job_id)] == sorted(bad)
        assert max(results_of(gateway, job_id).values()) == 1
