"""The clock of a gateway or a worker is set anew while jobs run: they go on, nobody is banned."""

import asyncio

import pytest

from swarm_hub.components.gc.collector import Collector
from tests.conftest import Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


@pytest.mark.parametrize("jump_s", [600, -86_400])
@pytest.mark.parametrize("whose", ["gateway", "worker"])
async def test_jobs_go_on_and_nobody_is_banned(
    swarm: Swarm, modules: Modules, jump_s: float, whose: str
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("one")
    _, body = await submit(gateway, modules["primes"], b"0:4000", {"shard_size": 100})
    (gateway if whose == "gateway" else worker).clock.jump_s += jump_s
    async with asyncio.timeout(30):
        assert (await finished(gateway, body["job_id"]))["state"] == "completed"
    _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    async with asyncio.timeout(30):
        assert (await finished(gateway, body["job_id"]))["state"] == "completed"
    _, nodes = await call(gateway, "GET", "/nodes")
    assert [node["state"] for node in nodes["nodes"]] == ["up"]
    _, health = await call(gateway, "GET", "/health")
    assert health["ok"] is True
    assert any("the clock jumped" in each for each in health["problems"]) == (whose == "gateway")


async def test_a_device_that_boots_in_1970_works_before_and_after_it_learns_the_time(
    swarm: Swarm, modules: Modules
) -> None:
    from tests.conftest import MovableClock

    gateway = await swarm.gateway()
    clock = MovableClock()
    years_s = clock.time() - 100
    clock.jump_s -= years_s
    clock._steady_at_boot -= years_s
    await swarm.worker("one", clock=clock)
    for _ in range(2):
        _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
        async with asyncio.timeout(30):
            assert (await finished(gateway, body["job_id"]))["state"] == "completed"
        clock.jump_s += years_s


async def test_a_jump_forward_lifts_no_ban_and_prunes_no_job(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra="gc: {platform: ttl, completed_after: 60}\n")
    await swarm.worker("one")
    _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    await finished(gateway, body["job_id"])
    await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    peer_id = swarm.keys("one")[0]
    code, _ = await call(gateway, "POST", f"/nodes/{peer_id}/ban", json={"for_s": 60})
    assert code == 200
    gateway.clock.jump_s += 86_400
    collector = gateway.hub.reloaders["gc"]
    assert isinstance(collector, Collector)
    await collector.collect()
    code, _ = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert code == 200
    _, nodes = await call(gateway, "GET", "/nodes")
    assert nodes["nodes"][0]["state"] == "banned"
    # Once it has run for an hour the clock is believed.
    gateway.clock.offset_s += 3601
    await collector.collect()
    code, _ = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert code == 410
