"""Pausing and resuming a hub's own worker over the REST API."""

from typing import Any

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.telemetry import TELEMETRY
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

WORKER = "worker: {charging_only: false, min_battery: 0}\n"


async def worker_of(hub: RunningHub) -> dict[str, Any]:
    status, body = await call(hub, "GET", "/worker")
    assert status == 200
    return dict(body)


async def test_a_hub_s_own_worker_is_paused_and_resumed(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    both = await swarm.gateway("both", extra=WORKER)
    before = await worker_of(both)
    assert (before["paused"], before["refuses"]) == (None, None)
    status, body = await call(both, "POST", "/worker/pause", json={"for_s": 3600})
    assert status == 200
    assert body["refuses"].startswith("paused by the owner until ")
    assert body["paused"]["until"] > body["paused"]["until"][:4]
    assert await worker_of(both) == body
    status, body = await call(both, "POST", "/worker/pause")
    assert (status, body["paused"]) == (200, {"until": None})
    _, job = await submit(both, modules["primes"], b"0:100")

    async def waits() -> Any:
        return (await call(both, "GET", f"/jobs/{job['job_id']}"))[1]["waits"]

    await until(waits, lambda told: told == "1 node: 1 paused by the owner")
    status, body = await call(both, "POST", "/worker/resume")
    assert (status, body["paused"], body["refuses"]) == (200, None, None)
    assert (await finished(both, job["job_id"]))["state"] == "completed"


@pytest.mark.parametrize("for_s", [0, -1, 366 * 86_400, "2h", True, [5], 1e300])
async def test_a_time_that_is_none_is_refused(swarm: Swarm, for_s: object) -> None:
    both = await swarm.gateway("both", extra=WORKER)
    status, body = await call(both, "POST", "/worker/pause", json={"for_s": for_s})
    assert (status, "expected seconds, from 0.001 to 365 days" in str(body["errors"])) == (
        422,
        True,
    )
    assert (await worker_of(both))["paused"] is None


async def test_a_gateway_without_a_worker_says_that_it_has_none(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, body = await call(gateway, "POST", "/worker/pause")
    assert (status, "worker:" in body["message"]) == (503, True)


async def test_the_client_pauses_and_resumes(swarm: Swarm) -> None:
    both = await swarm.gateway("both", extra=WORKER)
    async with SwarmClient(both.url, both.token) as client:
        assert (await client.pause(60))["paused"] is not None
        assert (await client.worker())["refuses"].startswith("paused by the owner until ")
        assert (await client.resume())["paused"] is None


async def test_a_hub_hears_its_own_worker_s_telemetry(swarm: Swarm) -> None:
    both = await swarm.gateway("both", extra=WORKER)
    await both.hub.services[TELEMETRY].own_known.wait()

    async def heard() -> Any:
        _, body = await call(both, "GET", "/nodes")
        return body["nodes"][0]["telemetry"]["cpu_percent"] if body["nodes"] else None

    await until(heard, lambda cpu: cpu is not None)
