"""A share of the CPU: children are stopped for a part of the time, which is no shard's time."""

import asyncio
from collections.abc import Awaitable, Callable

from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, until

ENDLESS = b"1 0"
Make = Callable[..., Awaitable[Sandbox]]


async def throttled(new_sandbox: Make, share: float) -> Bench:
    sandbox = await new_sandbox()
    await sandbox.stop()
    sandbox.throttle(share)
    await sandbox.start()
    return Bench(sandbox)


async def test_a_shard_gets_its_share_of_the_cpu(new_sandbox: Make) -> None:
    bench = await throttled(new_sandbox, 0.25)
    now = asyncio.get_running_loop().time
    began = now()
    outcome = await bench.run(modules.SPIN, "range", b"0 4000")
    assert outcome.output == b"4000"
    # With some room: the first period may have been under way, and a busy machine be late.
    assert outcome.cpu_s <= 0.4 * (now() - began) + 0.4


async def test_its_wall_time_stands_still_in_between(new_sandbox: Make) -> None:
    bench = await throttled(new_sandbox, 0.2)
    now = asyncio.get_running_loop().time
    began = now()
    outcome = await bench.run(modules.MAYBE_ENDLESS, "range", ENDLESS, wall_time_s=1.0)
    assert outcome.code == "wall_time"
    # Five times as long, but for a period.
    assert now() - began > 4.0 - 0.1


async def test_a_shard_is_withdrawn_from_a_stopped_child(new_sandbox: Make) -> None:
    bench = await throttled(new_sandbox, 0.05)
    running = asyncio.ensure_future(bench.run(modules.MAYBE_ENDLESS, "range", ENDLESS))
    children = bench.sandbox._children
    await until(
        lambda: any(child.queued and child.frozen_since_s is not None for child in children),
        timeout_s=30,
    )
    running.cancel()
    await asyncio.wait([running])
    outcome = await bench.run(modules.SPIN, "range", b"0 5")
    assert outcome.output == b"5"
