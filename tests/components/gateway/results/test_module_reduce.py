"""Jobs whose own module folds their results."""

import time
from typing import Any

import pytest

from swarm_hub.client import JobFailedError, SwarmClient
from swarm_hub.components.gateway.results.module_reduce import ModuleReducer
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


def records(count: int) -> bytes:
    return b"".join(b"%04d" % number for number in range(count))


async def joined(gateway: RunningHub, module: bytes, count: int, **spec: Any) -> dict[str, Any]:
    _, body = await submit(
        gateway, module, records(count), {"split": "records:4", "shard_size": 1, **spec}
    )
    return await finished(gateway, body["job_id"])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 301])
async def test_a_module_folds_its_own_results_in_item_order(
    swarm: Swarm, modules: Modules, count: int
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    await swarm.worker("two")
    status = await joined(gateway, modules["joins"], count)
    assert (status["state"], status["reduce"]) == ("completed", "module")
    async with SwarmClient(gateway.url, gateway.token) as client:
        result = await client.result(status["job_id"])
    assert result == b",".join(b"%04d" % number for number in range(count))


async def test_a_fold_of_large_results_is_a_blob(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    bodies = [bytes([65 + number]) * 20_000 for number in range(3)]
    spec = {"split": "records:20000", "shard_size": 1, "reduce": "module"}
    _, body = await submit(gateway, modules["joins"], b"".join(bodies), spec)
    assert (await finished(gateway, body["job_id"]))["state"] == "completed"
    _, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == b",".join(bodies)


async def test_another_reduce_is_the_jobs_choice(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    status = await joined(gateway, modules["joins"], 5, reduce="list")
    assert status["result"] == ["0000", "0001", "0002", "0003", "0004"]


async def test_a_trap_in_reduce_fails_the_job_by_name(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(JobFailedError, match="reduce failed: trap: unreachable") as failed:
            await client.map(modules["joins_badly"], records(4), split="records:4", shard_size=1)
    assert failed.value.status["state"] == "failed"


async def test_a_module_without_reduce_is_refused_before_it_is_stored(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    status, body = await submit(gateway, modules["echo"], b"abcd", {"reduce": "module"})
    assert (status, body["code"]) == (422, "no_reduce")
    assert "exports `reduce`" in body["message"]


async def done_shards(gateway: RunningHub, job_id: str) -> int:
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    return int(status["progress"]["shards_done"])


async def test_a_job_that_folds_is_cancelled_at_once(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"split": "records:4", "shard_size": 1}
    _, body = await submit(gateway, modules["joins_slowly"], records(40), spec)
    job_id = body["job_id"]
    await until(lambda: done_shards(gateway, job_id), lambda done: done == 40)
    requested = time.monotonic()
    status, body = await call(gateway, "DELETE", f"/jobs/{job_id}")
    assert (status, body["state"]) == (200, "cancelled")
    assert time.monotonic() - requested < 1
    # The sandbox is free again for the next job's fold.
    assert (await joined(gateway, modules["joins"], 3))["state"] == "completed"


async def test_a_fold_that_breaks_in_an_unforeseen_way_fails_its_job_and_says_so(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any) -> bytes:
        raise MemoryError("no room for 3 results")

    monkeypatch.setattr(ModuleReducer, "fold", breaks)
    gateway = await swarm.gateway()
    await swarm.worker("one")
    status = await joined(gateway, modules["joins"], 3)
    assert status["state"] == "failed"
    assert status["failures"] == ["its results can't be folded: MemoryError: no room for 3 results"]


async def test_a_gateway_that_stops_while_it_folds_folds_after_its_next_start(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"split": "records:4", "shard_size": 1}
    _, body = await submit(gateway, modules["joins_slowly"], records(4), spec)
    await until(lambda: done_shards(gateway, body["job_id"]), lambda done: done == 4)
    await swarm.stop(gateway)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    gateway = await swarm.gateway()
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "completed", status
    _, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == b"0000,0001,0002,0003"
