"""Many jobs of a gateway that is gone: the others share them, each is taken over once."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from swarm_hub.components.gateway.dispatch import leases as lease_keeper
from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.storage.queries import leases
from tests.conftest import Swarm, until
from tests.helpers.orphans import N_LEFT, OWNERS, leave_orphans
from tests.helpers.postgres import PostgresServer
from tests.helpers.rest import finished, submit


@contextmanager
def statements() -> Iterator[list[str]]:
    """Gather what is asked of all stores of this process."""
    said: list[str] = []

    def seen(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        said.append(statement)

    listen(Engine, "before_cursor_execute", seen)
    try:
        yield said
    finally:
        remove(Engine, "before_cursor_execute", seen)


async def take_over(
    swarm: Swarm, server: PostgresServer, url: str, module: bytes, count: int, within_s: float
) -> None:
    extra = f"storage: {{url: '{url}'}}\n"
    hubs = [await swarm.gateway(name, extra=extra) for name in ("first", "second")]
    with server.connect(url.rpartition("/")[2]) as database:
        with statements() as said:
            spec = {"abi": "range", "split": "range", "shard_size": 100}
            _, body = await submit(hubs[0], module, b"0 100\n", spec)
            leave_orphans(database, body["job_id"], count)

            async def left() -> int:
                row = database.execute(N_LEFT)
                return int(row.fetchall()[0][0])

            began = time.monotonic()
            await until(left, lambda n_jobs: n_jobs == 0, within_s)
            took_s = time.monotonic() - began

        owners = Counter(database.execute(OWNERS).fetchall())
    print(f"{took_s:.1f} s, {len(said) / count:.2f} statements a job, {owners}")
    assert {epoch for _, epoch in owners} == {2}
    # The first to look takes a few hundred before another does; of thousands each has its share.
    if count > 1000:
        assert len(owners) == 2, "one gateway took all"
    assert sum(owners.values()) == count
    assert len(said) <= 5 * count
    # Each gateway goes on with what it took, and counts each job's result once.
    await swarm.worker("worker", "first", "second")
    with server.connect(url.rpartition("/")[2]) as database:

        async def unfinished() -> int:
            row = database.execute("SELECT count(*) FROM jobs WHERE state != 'completed'")
            return int(row.fetchall()[0][0])

        await until(unfinished, lambda n_jobs: n_jobs == 0, 20 + count / 20)

        async def read_ends() -> list[Any]:
            return database.execute(
                "SELECT job_id FROM events WHERE event_type = 'job_completed'"
            ).fetchall()

        # An event comes a moment later than what it tells of.
        ends = await until(read_ends, lambda found: len(found) > count)
    assert set(Counter(ends).values()) == {1}
    assert len(ends) == count + 1


async def test_two_gateways_share_the_jobs_of_one_that_is_gone(
    swarm: Swarm, modules: dict[str, bytes], postgres_url: str, postgres_server: PostgresServer
) -> None:
    await take_over(swarm, postgres_server, postgres_url, modules["primes"], 300, 20)


async def test_a_gateway_whose_dispatcher_is_stuck_loses_its_lease(
    swarm: Swarm, modules: dict[str, bytes], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "LEASE_S", 2.0)
    monkeypatch.setattr(lease_keeper, "_RENEW_EVERY_S", 0.2)
    sign, stuck = Dispatcher.sign, asyncio.Event()

    async def sign_unless_stuck(dispatcher: Dispatcher) -> None:
        if stuck.is_set() and dispatcher.gateway_id == owner:
            await asyncio.Event().wait()
        await sign(dispatcher)

    monkeypatch.setattr(Dispatcher, "sign", sign_unless_stuck)
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    hubs = [await swarm.gateway(name, extra=extra) for name in ("first", "second")]
    _, body = await submit(hubs[0], modules["primes"], b"0 100\n", {"split": "range"})
    store = hubs[1].hub.store
    owner = await store.read(leases.owner, body["job_id"])
    stuck.set()
    await until(
        lambda: store.read(leases.owner, body["job_id"]), lambda now: now not in (owner, None)
    )
    # What it remembers of the job is let go when somebody asks.
    await swarm.worker("worker", "second")
    assert (await finished(hubs[0], body["job_id"]))["state"] == "completed"


@pytest.mark.nightly
@pytest.mark.timeout(400)
async def test_thousands_of_jobs_are_taken_over_once(
    swarm: Swarm, modules: dict[str, bytes], postgres_url: str, postgres_server: PostgresServer
) -> None:
    await take_over(swarm, postgres_server, postgres_url, modules["primes"], 4000, 15)
