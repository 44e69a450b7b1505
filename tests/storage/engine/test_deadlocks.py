"""Gateways that write the same rows at the same time wait for each other, but never in a circle."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

from swarm_hub.storage import Store
from swarm_hub.storage.queries import leases, nodes
from swarm_hub.util.clock import Clock
from tests.helpers.postgres import PostgresServer
from tests.helpers.stored import put_job

N_BODIES = 8
N_CALLERS = 4
N_TURNS = 20


async def test_three_gateways_with_the_same_modules_and_datasets_never_come_to_a_deadlock(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    bodies = [bytes([number]) * 100 for number in range(2 * N_BODIES)]
    draw = random.Random(7)

    async def submit(store: Store) -> None:
        """Write what comes with jobs of a module and a dataset at random, and of nodes."""
        for turn in range(N_TURNS):
            chosen = draw.sample(bodies[:N_BODIES], 3) + draw.sample(bodies[N_BODIES:], 3)
            draw.shuffle(chosen)
            rows = [(await store.blobs.put(body, float(turn)))[1] for body in chosen]
            names = draw.sample([f"node {number}" for number in range(N_BODIES)], 4)
            seen = [nodes.see(name, name, None, None, float(turn)) for name in names]
            await store.commit([*rows, *seen] if draw.random() < 0.5 else [*seen, *rows])
            asked = draw.sample(job_ids, 2)
            await store.change(leases.ask_to_cancel, asked)

    job_ids = [f"job {number}" for number in range(3)]
    async with AsyncExitStack() as stack:
        stores = []
        for number in range(3):
            store = Store.at(postgres_url, tmp_path / str(number), Clock())
            await store.open()
            stack.push_async_callback(store.close)
            stores.append(store)
        for job_id in job_ids:
            await put_job(stores[0], job_id, ended_at=None)
        await asyncio.gather(*(submit(store) for store in stores for _ in range(N_CALLERS)))
    # Sessions tell what they met when they end.
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as database:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert database.execute(query).fetchone() == (0,)
        asked_query = "SELECT count(*) FROM jobs WHERE cancel_asked = 1"
        assert database.execute(asked_query).fetchone() == (3,)
