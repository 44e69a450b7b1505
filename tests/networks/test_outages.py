"""Workers that vanish without a word: a link that is cut, processes that are frozen."""

import asyncio
import time

import pytest

from tests.conftest import until
from tests.networks.lab import Lab
from tests.networks.work import (
    attempts,
    completed,
    computing,
    down,
    finished_by,
    nothing_lost_or_doubled,
    shards_done,
    shards_in_inbox,
    spin,
    started,
    up,
)

pytestmark = pytest.mark.timeout(300)

# Three missed heartbeats of 5 s, the default, and until the next one looks.
NOTICED_WITHIN_S = 20.0
# Longer than it takes to notice. A whole minute would prove no more.
CUT_S = 20.0
# A worker looks for its gateway every second at first, then every 15; a try takes up to 10.
BACK_WITHIN_S = 30.0


async def test_a_link_that_is_cut_costs_nothing_but_time(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    centre, near, far = (lab.device(name) for name in ("gateway", "near", "far"))
    to_near, to_far = lab.cable(centre, near), lab.cable(centre, far)
    gateway = lab.gateway(centre)
    staying = lab.worker(near, [(gateway, to_near.first_address)])
    leaving = lab.worker(far, [(gateway, to_far.first_address)])
    client = await started(lab, gateway, staying, leaving)
    spec = spin(0.2)
    n_items = 16 * spec["shard_size"]
    first = await client.submit(modules["spin"], range(n_items), **spec)
    await until(lambda: shards_in_inbox(leaving, first), bool)
    await until(lambda: shards_done(client, first), lambda done: done >= 2)

    to_far.unplug()
    cut_at = time.monotonic()
    await down(client, leaving, NOTICED_WITHIN_S + 2)
    print(f"noticed after {time.monotonic() - cut_at:.1f} s")
    # The other one does what it held.
    await completed(client, first, n_items, within_s=CUT_S)
    await asyncio.sleep(max(0.0, CUT_S - (time.monotonic() - cut_at)))
    to_far.plug_in()
    mended_at = time.monotonic()
    await up(client, leaving, within_s=BACK_WITHIN_S)
    print(f"back after {time.monotonic() - mended_at:.1f} s")

    second = await client.submit(modules["spin"], range(n_items), **spec)
    await completed(client, second, n_items)
    assert (await finished_by(client, second)).keys() == {staying.peer_id, leaving.peer_id}
    await nothing_lost_or_doubled(gateway, {first: n_items, second: n_items}, [staying, leaving])


@pytest.mark.nightly
async def test_frozen_workers_are_replaced_and_their_late_results_count_at_most_once(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    """Both devices freeze in the middle of a shard, and thaw one after the other.

    The first one back ends what it was doing, which counts. It also does the shard of the other
    one, whose own result then comes too late.
    """
    centre = lab.device("gateway")
    gateway = lab.gateway(centre)
    workers = []
    for name in ("amber", "birch"):
        device = lab.device(name)
        cable = lab.cable(centre, device)
        workers.append(lab.worker(device, [(gateway, cable.first_address)]))
    amber, birch = workers
    client = await started(lab, gateway, *workers)
    # Both have the module when it gets serious.
    await client.map(modules["spin"], range(8), shard_size=1, reduce="sum")
    # Long enough to be in the middle of it on a fast machine: it ends when the worker thaws.
    spec = spin(5.0)
    n_items = 2 * spec["shard_size"]
    job_id = await client.submit(modules["spin"], range(n_items), **spec)
    (of_amber,) = await until(lambda: shards_in_inbox(amber, job_id), bool)
    (of_birch,) = await until(lambda: shards_in_inbox(birch, job_id), bool)

    await asyncio.gather(*map(computing, workers))
    for worker in workers:
        worker.freeze()
    frozen_at = time.monotonic()
    for worker in workers:
        await down(client, worker, NOTICED_WITHIN_S + 2)

    async def freed() -> list[tuple[str, str]]:
        return [
            attempt
            for index in (of_amber, of_birch)
            for attempt in await attempts(client, job_id, index)
        ]

    await until(freed, lambda found: {state for _, state in found} == {"expired"}, 5)
    noticed_s = time.monotonic() - frozen_at
    print(f"returned to the queue after {noticed_s:.1f} s")
    assert noticed_s <= NOTICED_WITHIN_S

    amber.thaw()
    await completed(client, job_id, n_items)
    # It was late, and counted, as nobody else had done that shard.
    assert (await attempts(client, job_id, of_amber))[0] == (amber.peer_id, "finished")
    assert (amber.peer_id, "finished") in await attempts(client, job_id, of_birch)

    birch.thaw()
    await up(client, birch, within_s=BACK_WITHIN_S)
    await nothing_lost_or_doubled(gateway, {job_id: n_items}, workers)
    assert (await attempts(client, job_id, of_birch))[0] == (birch.peer_id, "superseded")
    short = spin(0.5)
    n_more = 4 * short["shard_size"]
    more = await client.submit(modules["spin"], range(n_more), **short)
    await completed(client, more, n_more)
    assert (await finished_by(client, more)).keys() == {amber.peer_id, birch.peer_id}
    await nothing_lost_or_doubled(gateway, {job_id: n_items, more: n_more}, workers)
