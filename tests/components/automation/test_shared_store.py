"""Automations of gateways that share a PostgreSQL: one acts, and another one after it."""

import json
from typing import Any

import pytest

from swarm_hub.client import SwarmClient
from tests.components.automation.asking import CHAIN, ended, manual, notify, traces
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call

pytestmark = pytest.mark.slow


async def acts(hub: RunningHub) -> bool:
    _, answer = await call(hub, "GET", "/automations")
    return bool(answer["acting"])


async def test_one_gateway_acts_and_the_other_when_its_lease_has_run_out(
    swarm: Swarm, modules: dict[str, bytes], postgres_url: str
) -> None:
    entries: list[dict[str, Any]] = [CHAIN, notify({"event": "node_drained"})]
    extra = f"storage: {{url: '{postgres_url}'}}\nautomation: {json.dumps(entries)}\n"
    for name in ("first", "second"):
        swarm.keys(name)
    first = await swarm.gateway("first", extra=extra)
    second = await swarm.gateway("second", extra=extra)
    for hub in (first, second):
        (hub.folder / "cat.wasm").write_bytes(modules["cat"])
    assert (await acts(first), await acts(second)) == (True, False)
    await swarm.worker("worker", "first", "second")
    async with SwarmClient(second.url, second.token) as client:
        # Whichever gateway has the job.
        job = await client.submit(modules["cat"], b"a\n", reduce="concat", labels={"stage": "map"})
        (trace,) = await ended(second, "reduce")
        assert trace["trigger"]["job_id"] == job
        made = await manual(second, "tell")
        (trace,) = await ended(first, "tell")
        assert trace["trigger_id"] == made["trigger_id"]
        await until(lambda: jobs_done(client), lambda count: count == 2)
        await swarm.stop(first)
        await until(lambda: acts(second), bool)
        again = await client.submit(
            modules["cat"], b"b\n", reduce="concat", labels={"stage": "map"}
        )
        newest = (await ended(second, "reduce", 2))[0]
        assert newest["trigger"]["job_id"] == again
        await until(lambda: jobs_done(client), lambda count: count == 4)
    assert len(await traces(second, "reduce")) == 2


async def jobs_done(client: SwarmClient) -> int:
    return sum(each["state"] == "completed" for each in await client.jobs())
