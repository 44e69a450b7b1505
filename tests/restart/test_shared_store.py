"""Gateway processes on one PostgreSQL: one is killed or frozen, the other goes on with its jobs."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.helpers import warm
from tests.helpers.command_line import run_process
from tests.helpers.postgres import PostgresServer
from tests.helpers.swarms import local_swarm

# A busy machine takes its time over so many starts of hubs.
pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("warm_hubs")]
N_SHARDS = 40
ITEMS_A_SHARD = 150


class Pair:
    """Two gateways on one store, with two workers that obey both."""

    def __init__(self, server: PostgresServer, url: str, hubs: list[LocalHub]) -> None:
        self.server = server
        self.name = url.rpartition("/")[2]
        self.first, self.second = hubs
        self.clients: list[SwarmClient] = []

    async def job(self, modules: dict[str, bytes]) -> str:
        """Submit a job of some seconds to the first gateway, and wait until it is under way."""
        items = range(N_SHARDS * ITEMS_A_SHARD)
        client = self.clients[0]
        job_id = await client.submit(modules["spin"], items, shard_size=ITEMS_A_SHARD, reduce="sum")

        async def done() -> int:
            return int((await client.status(job_id))["progress"]["shards_done"])

        await until(done, lambda count: count >= 3)
        return job_id

    async def assert_counted_once(self, job_id: str) -> None:
        """Wait for the job at the second gateway; each of its shards counts once."""
        async with asyncio.timeout(60):
            status = await self.clients[1].wait(job_id)
        assert (status["state"], status["result"]) == ("completed", N_SHARDS * ITEMS_A_SHARD)
        with self.server.connect(self.name) as database:
            rows = database.execute("SELECT idx FROM results WHERE job_id = %s", [job_id])
            assert Counter(index for (index,) in rows) == Counter(range(N_SHARDS))

            async def n_ends() -> int:
                query = "SELECT FROM events WHERE job_id = %s AND event_type = 'job_completed'"
                return len(database.execute(query, [job_id]).fetchall())

            # An event comes a moment later than what it tells of.
            assert await until(n_ends, bool) == 1
            events = database.execute(
                "SELECT count(*), max(seq) - min(seq) + 1 FROM events"
            ).fetchone()
            assert events is not None
            assert events[0] == events[1]


@pytest.fixture
async def pair(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> AsyncIterator[Pair]:
    swarm = local_swarm(tmp_path)
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    hubs = [swarm.start_gateway(name, extra) for name in ("first", "second")]
    for name in ("amber", "birch"):
        swarm.start_worker(name, *hubs)
    made = Pair(postgres_server, postgres_url, hubs)
    try:
        async with AsyncExitStack() as stack:
            for hub in hubs:
                client = await stack.enter_async_context(SwarmClient(hub.url, hub.token))
                await swarm.wait_for_workers(client, 2)
                made.clients.append(client)
            yield made
    finally:
        for hub in hubs:
            if hub.process is not None and hub.process.poll() is None:
                os.kill(hub.pid, signal.SIGCONT)
        await asyncio.to_thread(swarm.stop)


async def test_a_job_of_a_killed_gateway_finishes_through_the_other_in_time(
    pair: Pair, modules: dict[str, bytes]
) -> None:
    job_id = await pair.job(modules)
    pair.first.kill()
    killed_at = time.monotonic()

    def asked(query: str, value: str) -> Any:
        with pair.server.connect(pair.name) as database:
            row = database.execute(query, [value]).fetchone()
            assert row is not None
            return row[0]

    lease = "SELECT alive_until FROM gateways WHERE name = %s", pair.first.peer_id
    would_end = asked(*lease)

    async def owner() -> Any:
        return await asyncio.to_thread(asked, "SELECT gateway FROM jobs WHERE id = %s", job_id)

    await until(owner, lambda name: name == pair.second.peer_id)
    # It did not run out: the server said that the session of its gateway had ended.
    assert asked(*lease) < would_end
    print(f"taken over {time.monotonic() - killed_at:.1f} s after the kill")
    await pair.assert_counted_once(job_id)
    assert "Took over 1 jobs" in pair.second.log()


async def test_a_frozen_gateway_does_not_disturb_the_one_that_took_over(
    pair: Pair, modules: dict[str, bytes]
) -> None:
    job_id = await pair.job(modules)
    os.kill(pair.first.pid, signal.SIGSTOP)
    await pair.assert_counted_once(job_id)
    os.kill(pair.first.pid, signal.SIGCONT)
    async with asyncio.timeout(30):
        status = await pair.clients[0].status(job_id)
    # Its first answer is of the store, not of what it remembers from before.
    assert status["state"] == "completed"
    assert status["result"] == N_SHARDS * ITEMS_A_SHARD
    await pair.assert_counted_once(job_id)


def crash(pair: Pair) -> None:
    for _ in range(3):
        pair.server.crash()


def end_all_sessions(pair: Pair) -> None:
    """End all sessions of all gateways, some of which have just been made anew."""
    for _ in range(5):
        with pair.server.connect(pair.name) as database:
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        time.sleep(0.4)


def restart(pair: Pair, away_s: float = 0.0) -> None:
    pair.server.stop()
    time.sleep(away_s)
    pair.server.start()


def stay_away_for_a_minute(pair: Pair) -> None:
    restart(pair, 60.0)


@pytest.mark.parametrize(
    "fault",
    [
        crash,
        end_all_sessions,
        pytest.param(restart, marks=pytest.mark.nightly),
        pytest.param(stay_away_for_a_minute, marks=pytest.mark.nightly),
    ],
)
async def test_a_fault_of_the_server_costs_nothing_but_time(
    pair: Pair, modules: dict[str, bytes], fault: Callable[[Pair], None]
) -> None:
    job_id = await pair.job(modules)
    await asyncio.to_thread(fault, pair)
    await pair.assert_counted_once(job_id)


@pytest.mark.nightly
async def test_whoever_watches_a_job_of_a_killed_gateway_is_told_and_finds_it_at_the_other(
    pair: Pair, modules: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "spin.wasm").write_bytes(modules["spin"])
    n_items = 5 * N_SHARDS * ITEMS_A_SHARD
    size = ["--range", f"0:{n_items}", "--shard-size", f"{ITEMS_A_SHARD}"]
    submission = ["submit", str(tmp_path / "spin.wasm"), *size, "--reduce", "sum", "--watch"]
    said = [tmp_path / "submitting", tmp_path / "watching"]
    with contextlib.ExitStack() as stack:

        def start(number: int, *arguments: str) -> warm.Process:
            at = ("--url", pair.first.url, "--token", pair.first.token)
            return warm.start(
                "swarm_hub", [*arguments, *at], stderr=stack.enter_context(said[number].open("wb"))
            )

        async def told(number: int, words: str) -> None:
            async def text() -> str:
                return said[number].read_text()

            await until(text, lambda found: words in found, 30)

        watching = [start(0, *submission)]
        await told(0, "running: ")
        job_id = said[0].read_text().split()[1]
        watching.append(start(1, "job", "watch", job_id))
        await told(1, "running: ")
        pair.first.kill()
        for number, process in enumerate(watching):
            await told(number, "The gateway does not answer. The job is safe: ")
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 30) == 130
            await told(number, f"To watch it again: swarm-hub job watch {job_id}\n")
    at = ("--url", pair.second.url, "--token", pair.second.token)
    done = await asyncio.to_thread(run_process, "job", "watch", job_id, *at)
    assert (done.code, done.out) == (0, str(n_items)), done.err
