"""A module that never ends beside small jobs and an urgent one, on real hubs of 1, 2 and 8 slots.

For each fleet: how long a small job takes alone and beside the endless module, when an urgent job
begins, and when and why the endless one fails.
"""

import asyncio
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from figures import Figures, start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalSwarm
from swarm_hub.client import SwarmClient

# Workers and slots of each.
_FLEETS = {1: (1, 1), 2: (2, 1), 8: (2, 4)}
_WALL_S = 12.0
_ITEMS = 200_000
# Runs `turns` times for each of hi - lo items; for ever if there are none.
_SPIN = """
(module
  (func (export "map") (param $lo i64) (param $hi i64) (result i64) (local $left i64)
    (local.set $left
      (i64.mul (i64.sub (local.get $hi) (local.get $lo)) (i64.const {turns})))
    (loop $again (br_if $again (i64.eqz (i64.const {turns}))))
    (block $done (loop $next
      (br_if $done (i64.eqz (local.get $left)))
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br $next)))
    (i64.sub (local.get $hi) (local.get $lo))))
"""


async def main() -> None:
    """Run each fleet."""
    figures, options = start(__doc__ or "")

    async def assembled(turns: int) -> bytes:
        text = _SPIN.replace("{turns}", str(turns))
        return await with_sandbox(lambda sandbox: sandbox.assemble(text))

    endless, small, urgent = [await assembled(turns) for turns in (0, 5_000, 1)]
    for slots in (1, 2) if options.quick else _FLEETS:
        await _fleet(figures, slots, endless, small, urgent)


async def _fleet(figures: Figures, slots: int, endless: bytes, small: bytes, urgent: bytes) -> None:
    n_workers, of_each = _FLEETS[slots]
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            gateway = swarm.start_gateway()
            for number in range(n_workers):
                extra = f"worker: {{slots: {of_each}, charging_only: false}}\n"
                swarm.start_worker(f"worker-{number}", gateway, extra=extra)
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, n_workers)
                alone_s = await _timed(client, small)
                begun = time.monotonic()
                endless_id = await client.submit(
                    endless, range(1000), reduce="sum", limits={"wall_time": _WALL_S}
                )
                await _running(client, endless_id, slots)
                # A module of its own, so that the hub knows nothing of it.
                beside_s = await _timed(client, small + b"\x00\x04\x03abc")
                urgent_s = await _timed(client, urgent, items=1, priority=100)
                end = await client.wait(endless_id)
                ended_s = time.monotonic() - begun
                told = await client.story(endless_id)
        finally:
            swarm.stop()
    figures.add("small_alone_s", alone_s, "s", slots=slots)
    figures.add("small_beside_endless_s", beside_s, "s", target=3 * alone_s + 5, slots=slots)
    figures.add("urgent_s", urgent_s, "s", target=5, slots=slots)
    figures.add(
        "endless_failed_s", ended_s, "s", slots=slots, wall_s=_WALL_S, state=end["state"],
        reason=(end["failures"] or [""])[0], shards_failed=_count(told, "shard_failed"),
    )  # fmt: skip


def _count(story: list[dict[str, Any]], kind: str) -> int:
    return sum(event["event_type"] == kind for event in story)


async def _running(client: SwarmClient, job_id: str, slots: int) -> None:
    """Return when a job's shards have occupied the fleet for two seconds."""
    while True:
        assigned = [
            datetime.fromisoformat(event["time_fired"]).timestamp()
            for event in await client.story(job_id)
            if event["event_type"] == "shard_assigned"
        ]
        if len(assigned) >= slots and time.time() > assigned[slots - 1] + 2:
            return
        await asyncio.sleep(0.1)


async def _timed(client: SwarmClient, module: bytes, items: int = _ITEMS, **spec: Any) -> float:
    started = time.monotonic()
    total = await client.map(module, range(items), reduce="sum", **spec)
    assert total == items, total
    return time.monotonic() - started


if __name__ == "__main__":
    asyncio.run(main())
