"""What Android does to a phone that works: it is killed again and again, and frozen.

With SWARM_HUB_EVERY_FAULT as often and as long as it may be (script/nightly).
"""

import asyncio
import os
import random
import time
from typing import Any, Final

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.helpers.invariants import broken_gateway, broken_worker, undelivered
from tests.phone.phone import Phone, is_up, node

pytestmark = pytest.mark.timeout(600)

_EVERY_FAULT = "SWARM_HUB_EVERY_FAULT" in os.environ
KILLS: Final = 50 if _EVERY_FAULT else 4
FROZEN_S: Final = 75.0 if _EVERY_FAULT else 2.0
# A later run can be given the seed that a failure printed.
SEED: Final = int(os.environ.get("SWARM_HUB_TEST_SEED") or int.from_bytes(os.urandom(4), "big"))
ITEMS_A_SHARD: Final = 50  # `spin` needs some 40 ms for them
# More than it can do before it is killed for the last time.
SHARDS_A_KILL: Final = 12
# An import of all that a worker needs takes about a second, so these strike it while it starts.
EARLY_S: Final = (0.05, 1.0)
# Each time it does more than it can have under way at once: a shard that three lives in a row end
# with, at last while it runs alone, is given up.
DONE_A_LIFE: Final = 6
AT_WORK_S: Final = (0.0, 0.05)
BEGINS: Final = {"worker": "battery_unknown: run", "mesh": "  heartbeat: 1\n"}


async def test_a_phone_that_is_killed_again_and_again_during_a_job_finishes_it(
    phone: Phone, gateway: LocalHub, client: SwarmClient, modules: dict[str, bytes]
) -> None:
    """Its hub and its sandbox are killed, in every other life while it starts."""
    rng = random.Random(SEED)
    n_items = KILLS * SHARDS_A_KILL * ITEMS_A_SHARD
    job_id, started = await begun(phone, gateway, client, modules, n_items), time.monotonic()
    for number in range(KILLS):
        if number % 2:
            await asyncio.sleep(rng.uniform(*EARLY_S))
        else:
            wanted = await shards_done(client, job_id) + DONE_A_LIFE
            await until(lambda: shards_done(client, job_id), wanted.__le__, 60)
            await asyncio.sleep(rng.uniform(*AT_WORK_S))
        phone.kill()
        phone.start()
    status = await client.status(job_id)
    assert status["state"] == "running", f"seed {SEED}: the job was too small, or failed: {status}"
    await whole(phone, gateway, client, job_id, n_items)
    retries = (await client.status(job_id))["progress"]["retries"]
    print(
        f"\nseed {SEED}: {KILLS} kills, {KILLS * SHARDS_A_KILL} shards, {retries} retries, "
        f"{time.monotonic() - started:.0f} s"
    )


async def test_a_phone_that_was_frozen_is_back_and_goes_on(
    phone: Phone, gateway: LocalHub, client: SwarmClient, modules: dict[str, bytes]
) -> None:
    n_items = 48 * ITEMS_A_SHARD
    job_id = await begun(phone, gateway, client, modules, n_items)
    phone.freeze()
    frozen_at = time.monotonic()
    await until(lambda: node(client), lambda found: found["state"] == "down", 30)
    noticed_s = time.monotonic() - frozen_at
    await asyncio.sleep(max(0.0, FROZEN_S - noticed_s))
    phone.thaw()
    thawed_at = time.monotonic()
    await until(lambda: is_up(client), bool, 30)
    back_s = time.monotonic() - thawed_at
    await whole(phone, gateway, client, job_id, n_items)
    print(f"\nmissed after {noticed_s:.1f} s, back {back_s:.1f} s after {FROZEN_S:.0f} s")


async def begun(
    phone: Phone,
    gateway: LocalHub,
    client: SwarmClient,
    modules: dict[str, bytes],
    n_items: int,
) -> str:
    """Have a phone begin with a job that counts so many items."""
    await phone.join(gateway, client, **BEGINS)
    phone.start()
    spec: dict[str, Any] = {"shard_size": ITEMS_A_SHARD, "reduce": "sum"}
    job_id = await client.submit(modules["spin"], range(n_items), **spec)
    await until(lambda: shards_done(client, job_id), bool, 60)
    return job_id


async def shards_done(client: SwarmClient, job_id: str) -> int:
    return int((await client.status(job_id))["progress"]["shards_done"])


async def whole(
    phone: Phone, gateway: LocalHub, client: SwarmClient, job_id: str, n_items: int
) -> None:
    """Wait for the job: its result is right, no shard is lost or counted twice."""
    async with asyncio.timeout(120 + 2 * KILLS):
        status = await client.wait(job_id)
    found = (status["state"], status["result"])
    assert found == ("completed", n_items), f"seed {SEED}: {status}\n{phone.log()[-2000:]}"

    async def left() -> int:
        return await asyncio.to_thread(undelivered, [phone.database])

    await until(left, lambda count: count == 0, 40)
    broken = broken_gateway(gateway.folder / "swarm_hub.db", {job_id: n_items})
    assert broken + broken_worker(phone.database) == [], f"seed {SEED}"
