"""Workers that vanish without a word: a link that is cut."""

import asyncio
import time

import pytest

from tests.conftest import until
from tests.networks.lab import Lab
from tests.networks.work import (
    completed,
    down,
    finished_by,
    held,
    nothing_lost_or_doubled,
    shards_done,
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
    await until(lambda: held(leaving, first), bool)
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
