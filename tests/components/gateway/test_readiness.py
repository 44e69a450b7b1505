"""A gateway whose store is away, or that stops, says so at once; whoever waits is let go."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection

from swarm_hub.exceptions import StoreError
from swarm_hub.models.presence import Presence
from swarm_hub.storage.queries import presence
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.postgres import PostgresServer
from tests.helpers.rest import call, finished, live, submit

Modules = dict[str, bytes]
SPEC = {"abi": "range", "split": "range", "shard_size": 100, "reduce": "sum"}
WAIT_S = 60
N_WAITING = 20


async def asked(hub: RunningHub, path: str, **headers: str) -> tuple[int, Any, Any]:
    """Return (status, body, headers) of a GET."""
    headers = {"Authorization": f"Bearer {hub.token}", **headers}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{hub.url}/api/v1{path}", headers=headers) as response,
    ):
        body = await response.read()
        return response.status, body if response.status == 304 else await response.json(), (
            response.headers
        )  # fmt: skip


async def refused(hub: RunningHub, path: str) -> tuple[int, Any, Any]:
    """Ask again as long as there are answers; return the first refusal."""
    while (answer := await asked(hub, path))[0] < 400:
        pass
    return answer


async def is_ready(hub: RunningHub) -> tuple[int, list[str]]:
    status, told = await call(hub, "GET", "/health/ready", token=None)
    return status, told["waits_for"]


async def n_connections(hub: RunningHub) -> int:
    headers = {"Authorization": f"Bearer {hub.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{hub.url}/metrics", headers=headers) as response,
    ):
        text = await response.text()
    (count,) = re.findall(r"^swarm_hub_api_connections (\d+)", text, re.MULTILINE)
    return int(count)


@asynccontextmanager
async def away(server: PostgresServer) -> AsyncIterator[None]:
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@pytest.fixture
async def both(swarm: Swarm, postgres_url: str) -> tuple[RunningHub, RunningHub]:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    return (
        await swarm.gateway("first", extra=extra),
        await swarm.gateway("second", extra=extra),
    )


async def test_while_the_store_is_away_nobody_waits_and_everybody_is_told_when_to_come_back(
    both: tuple[RunningHub, RunningHub], modules: Modules, postgres_server: PostgresServer
) -> None:
    hub, _ = both
    assert await is_ready(hub) == (200, [])
    _, body = await submit(hub, modules["spin"], b"0 1000\n", SPEC)
    job_id = body["job_id"]
    began = time.monotonic()
    # One is held by what this gateway knows, the other by the store.
    held = [
        asyncio.create_task(refused(each, f"/jobs/{job_id}?wait={WAIT_S}")) for each in both
    ]  # fmt: skip
    async with live(hub) as client:
        command = asyncio.create_task(client.command("jobs/get", job_id=job_id, wait=WAIT_S))
        async with away(postgres_server):
            for status, told, headers in await asyncio.gather(*held):
                assert (status, told["code"]) == (503, "store_away")
                assert int(headers["Retry-After"]) > 0
            assert (await command)["error"]["code"] == "store_away"
            assert time.monotonic() - began < WAIT_S / 3
            began = time.monotonic()
            for path in ("/jobs", f"/jobs/{job_id}?wait={WAIT_S}", f"/jobs/{job_id}/result"):
                for each in both:
                    status, told, headers = await asked(each, path)
                    assert (status, told["code"]) == (503, "store_away")
                    assert int(headers["Retry-After"]) > 0
            status, told = await submit(hub, modules["spin"], b"0 2000\n", SPEC)
            assert (status, told["code"]) == (503, "store_away")
            status, waits_for = await is_ready(hub)
            assert status == 503
            assert waits_for[0].startswith("the store, for ")
            assert (await call(hub, "GET", "/health/live", token=None))[0] == 200
            with pytest.raises(aiohttp.WSMessageTypeError, match="1013"):
                async with live(hub):
                    pass
            # Together, not each.
            assert time.monotonic() - began < 4
    await until(lambda: is_ready(hub), lambda told: told == (200, []))
    assert (await asked(hub, f"/jobs/{job_id}"))[1]["state"] == "queued"


async def test_a_gateway_that_stops_answers_who_waits_and_leaves_its_jobs_to_the_other(
    both: tuple[RunningHub, RunningHub], swarm: Swarm, modules: Modules
) -> None:
    first, second = both
    _, body = await submit(first, modules["spin"], b"0 100\n", SPEC)
    job_id = body["job_id"]
    async with live(first) as client:
        waiting = [
            asyncio.create_task(asked(first, f"/jobs/{job_id}?wait={WAIT_S}"))
            for _ in range(N_WAITING)
        ]
        await until(lambda: n_connections(first), lambda count: count > N_WAITING)
        began = time.monotonic()
        await swarm.stop(first)
        took_s = time.monotonic() - began
        assert {(status, told["state"]) for status, told, _ in await asyncio.gather(*waiting)} == {
            (202, "queued")
        }
        # Less than a stop takes that waits for its clients.
        assert took_s < 4
        with pytest.raises(aiohttp.WSMessageTypeError, match="1001"):
            await client.receive()
    await swarm.worker("worker", "second")
    assert (await finished(second, job_id))["result"] == 100


async def test_a_gateway_that_wakes_up_tells_nothing_of_jobs_that_it_remembers(
    both: tuple[RunningHub, RunningHub], swarm: Swarm, modules: Modules,
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first, second = both
    _, body = await submit(first, modules["spin"], b"0 100\n", SPEC)
    job_id = body["job_id"]
    name = postgres_url.rpartition("/")[2]
    frozen, keep = True, presence.keep

    def keep_but_frozen(connection: Connection, told: Presence, *rest: float) -> presence.Kept:
        if frozen and (told.peer_id,) == owner:
            raise StoreError("it is frozen")
        return keep(connection, told, *rest)

    with postgres_server.connect(name) as database:
        owner = database.execute("SELECT gateway FROM jobs").fetchone()
        monkeypatch.setattr(presence, "keep", keep_but_frozen)
        database.execute("UPDATE gateways SET alive_until = 0 WHERE name = %s", owner)

        async def owner_now() -> Any:
            return database.execute("SELECT gateway FROM jobs").fetchone()

        await until(owner_now, lambda now: now != owner)
    await swarm.worker("worker", "second")
    assert (await finished(second, job_id))["result"] == 100
    # It was frozen for so long.
    first.clock.monotonic_offset_s += 17
    assert "its lease, for" in str(await is_ready(first))
    first.clock.monotonic_offset_s += 2
    frozen = False
    for part in ("/shards", "/story", ""):
        assert "ETag" in (await asked(first, f"/jobs/{job_id}{part}"))[2], part
    assert (await asked(first, f"/jobs/{job_id}"))[1]["state"] == "completed"
    await until(lambda: is_ready(first), lambda told: told == (200, []))
