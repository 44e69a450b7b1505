"""Jobs whose own module folds their results."""

import gc
import time
import tracemalloc
from typing import Any

import pytest

from swarm_hub.client import JobFailedError, SwarmClient
from swarm_hub.components.gateway.results.module_reduce import ModuleReducer
from swarm_hub.components.sandbox import SANDBOX
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]

# `map` gives its shard, `reduce` the first result with both first bytes added.
ADDS_FIRST_BYTES = """(module
  (memory (export "memory") 32)
  (global $end (mut i32) (i32.const 16))
  (func (export "alloc") (param $n i32) (result i32)
    (global.get $end) (global.set $end (i32.add (global.get $end) (local.get $n))))
  (func $packed (param $at i32) (param $n i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
      (i64.extend_i32_u (local.get $n))))
  (func (export "map") (param $at i32) (param $n i32) (result i64)
    (call $packed (local.get $at) (local.get $n)))
  (func (export "reduce") (param $at i32) (param $n i32) (param $b i32) (param $m i32) (result i64)
    (i32.store8 (local.get $at)
      (i32.add (i32.load8_u (local.get $at)) (i32.load8_u (local.get $b))))
    (call $packed (local.get $at) (local.get $n))))"""


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


async def test_a_fold_keeps_no_more_of_large_results_in_memory_than_the_module_needs(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    # Each shard is 512 KiB, as is what two of them give.
    n_shards, size_bytes = 48, 512 * 1024
    sandbox = gateway.hub.services[SANDBOX].sandbox
    module = await sandbox.assemble(ADDS_FIRST_BYTES)
    spec = {"split": f"records:{size_bytes}", "shard_size": 1}
    _, body = await submit(gateway, module, b"\1" * (n_shards * size_bytes), spec)
    fold, peaks_bytes = ModuleReducer.fold, []

    async def measured(*arguments: Any) -> Any:
        gc.collect()
        tracemalloc.start()
        try:
            return await fold(*arguments)
        finally:
            peaks_bytes.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModuleReducer, "fold", measured)
        status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result_bytes"]) == ("completed", size_bytes), status
    _, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == bytes([n_shards]) + b"\1" * (size_bytes - 1)
    assert len(peaks_bytes) == 1
    assert peaks_bytes[0] < n_shards * size_bytes / 2


async def test_results_that_the_module_cannot_hold_fail_the_job_before_they_are_read(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra="sandbox: {memory: 192KiB}\n")
    await swarm.worker("one")
    spec = {"split": "records:100000", "shard_size": 1, "reduce": "module"}
    _, body = await submit(gateway, modules["joins"], bytes(200_000), spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "failed"
    assert "can't take results of 100000 and 100000 bytes" in status["failures"][0]


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
    async def breaks(*_: Any) -> None:
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
