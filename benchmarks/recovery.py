"""Kill -9 of a worker and of the gateway in the middle of a job of 24 shards of 0.5 s."""

import asyncio
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from figures import Figures, start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

_WORKERS = 4
_SHARDS = 24
_KILL_AT_S = 1.25
# A WASI command that sleeps 0.5 s (poll_oneoff on the monotonic clock) and prints 1.
_SLEEPER = """
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 200) "1\\n")
  (func (export "_start")
    (i32.store8 (i32.const 8) (i32.const 0))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 500000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    (i32.store (i32.const 160) (i32.const 200))
    (i32.store (i32.const 164) (i32.const 2))
    (drop (call $write (i32.const 1) (i32.const 160) (i32.const 1) (i32.const 168)))))
"""


async def main() -> None:
    """Run the job unharmed, then with each kill."""
    figures, _ = start(__doc__ or "")
    module = await with_sandbox(lambda sandbox: sandbox.assemble(_SLEEPER))
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            gateway = swarm.start_gateway()
            workers = [
                swarm.start_worker(
                    f"worker-{number}", gateway, extra="worker: {slots: 1, charging_only: false}\n"
                )
                for number in range(_WORKERS)
            ]
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, _WORKERS)
                # The first job compiles the module on every worker.
                await _run(client, module)
                unharmed_s, _ = await _run(client, module)
                await _kill_worker(client, module, figures, workers[0], unharmed_s)
                workers[0].start()
                await swarm.wait_for_workers(client, _WORKERS)
                await _kill_gateway(client, module, figures, gateway)
        finally:
            swarm.stop()


async def _run(client: SwarmClient, module: bytes) -> tuple[float, dict[str, Any]]:
    started = time.monotonic()
    job_id = await client.submit(module, range(_SHARDS), abi="wasi", reduce="sum", shard_size=1)
    status = await client.wait(job_id)
    return time.monotonic() - started, status


async def _kill_worker(
    client: SwarmClient, module: bytes, figures: Figures, worker: LocalHub, unharmed_s: float
) -> None:
    running = asyncio.create_task(_run(client, module))
    await asyncio.sleep(_KILL_AT_S)
    worker.kill()
    took_s, status = await running
    figures.add(
        "worker_kill_extra_s", took_s - unharmed_s, "s",
        unharmed_s=round(unharmed_s, 2), retries=status["progress"]["retries"],
    )  # fmt: skip
    _count(figures, status, "worker")


async def _kill_gateway(
    client: SwarmClient, module: bytes, figures: Figures, gateway: LocalHub
) -> None:
    job_id = await client.submit(module, range(_SHARDS), abi="wasi", reduce="sum", shard_size=1)
    await asyncio.sleep(_KILL_AT_S)
    gateway.kill()
    restarted = time.time()
    gateway.start()
    status = await client.wait(job_id)
    counted = [
        datetime.fromisoformat(event["time_fired"]).timestamp()
        for event in await client.story(job_id)
        if event["event_type"] == "shard_done"
    ]
    first = min(at for at in counted if at > restarted)
    figures.add("gateway_kill_resume_s", first - restarted, "s", target=2)
    _count(figures, status, "gateway")


def _count(figures: Figures, status: dict[str, Any], killed: str) -> None:
    """Each shard prints 1, so the sum is how often shards were counted."""
    total = status.get("result") or 0
    figures.add("lost", max(0, _SHARDS - total), "shards", target=0, killed=killed)
    figures.add("double", max(0, total - _SHARDS), "shards", target=0, killed=killed)


if __name__ == "__main__":
    asyncio.run(main())
