"""A large module on its way over a slow link, by the mesh's own stream."""

import asyncio
import os
import statistics
import time

import pytest

from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.networks.lab import Lab, NetworkHub
from tests.networks.link import DOWN, Link, Quality
from tests.networks.work import completed, nothing_lost_or_doubled, spin, started

pytestmark = pytest.mark.timeout(300)

MB = 1_000_000
SLOW = Quality(delay_s=0.005, bytes_a_second=4 * MB)
DELAYED_AT_MOST_MS = 250
# Heartbeats, credit and what encryption and framing add.
OVERHEAD = 1.03


def padded(module: bytes, size_bytes: int) -> bytes:
    """Return a module with a custom section that makes it that large, and not compressible."""
    name = b"\x03pad"
    body = name + os.urandom(size_bytes - len(module) - len(name) - 6)
    length = bytes((len(body) >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21))
    return module + b"\x00" + length + bytes([len(body) >> 28]) + body


async def slow_lab(lab: Lab) -> tuple[NetworkHub, NetworkHub, NetworkHub, Link]:
    """Return a gateway, a worker behind a slow link, one with a link of its own, and the link."""
    centre, away, near = (lab.device(name) for name in ("gateway", "away", "near"))
    to_away, to_near = lab.cable(centre, away), lab.cable(centre, near)
    beat = "  bulk: false\n  heartbeat: 1\n"
    gateway = lab.gateway(centre, beat)
    link = await lab.link(away, centre, to_away.first_address, SLOW)
    reached = [(gateway, "127.0.0.1")]
    slow = lab.worker(away, reached, beat, listen=to_away.second_address, slots=2)
    quick = lab.worker(near, [(gateway, to_near.first_address)], beat)
    return gateway, slow, quick, link


@pytest.mark.nightly
async def test_fifty_megabytes_delay_no_heartbeat_and_no_ack(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    """The worker on the other link shows what this machine itself adds at the same time.

    On the slow link it adds twice by how much it is late with what passes there.
    """
    gateway, slow, quick, link = await slow_lab(lab)
    client = await started(lab, gateway, slow, quick)
    # It is there to be compared with, not to take work.
    await client.node_action(quick.peer_id, "drain")
    small = modules["count"]
    await client.map(small, range(1), reduce="sum")
    alone_ms = [await small_job_ms(client, small) for _ in range(6)]

    spec = spin(0.01)
    module = padded(modules["spin"], 50 * MB)
    before = link.passed_bytes[DOWN]
    link.late_s = 0.0
    job_id = await client.submit(module, range(spec["shard_size"]), **spec)
    seen: dict[str, list[float]] = {slow.peer_id: [], quick.peer_id: []}

    async def carried() -> int:
        for node in await client.nodes():
            times = seen[node["node_id"]]
            if node["rtt_ms"] is not None and node["rtt_ms"] not in times[-1:]:
                times.append(node["rtt_ms"])
        return link.passed_bytes[DOWN] - before

    await until(carried, lambda count: count > 1 * MB, 60)
    beside = asyncio.create_task(small_jobs_ms(client, small))
    await until(carried, lambda count: count > 50 * MB, 200)
    beside.cancel()
    late_ms = 2000 * link.late_s
    await completed(client, job_id, spec["shard_size"])
    # The first ones are of before the transfer.
    times, others = (seen[worker.peer_id][1:] for worker in (slow, quick))
    beside_ms = await beside
    print(f"slow link: {len(times)} beats, median {statistics.median(times)}, max {max(times)} ms")
    print(f"other link: {len(others)} beats, max {max(others)} ms; late by {late_ms:.0f} ms")
    for what, found in (("alone", alone_ms), ("beside", beside_ms)):
        print(f"{len(found)} jobs {what}: {statistics.median(found):.0f}, max {max(found):.0f} ms")
    assert len(times) >= 8
    assert max(times) <= DELAYED_AT_MOST_MS + max(others) + late_ms
    # An assignment, its ACK and its result share the link with the module.
    assert len(beside_ms) >= 8
    assert statistics.median(beside_ms) <= DELAYED_AT_MOST_MS + statistics.median(alone_ms)


async def small_job_ms(client: SwarmClient, module: bytes) -> float:
    """Return how long a job of one item takes."""
    began = time.monotonic()
    assert await client.map(module, range(1), reduce="sum") == 1
    return (time.monotonic() - began) * 1000


async def small_jobs_ms(client: SwarmClient, module: bytes) -> list[float]:
    """Run jobs one after the other until cancelled; returns how long each took."""
    found = []
    try:
        while True:
            found.append(await small_job_ms(client, module))
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return found


async def test_an_interrupted_transfer_goes_on_where_it_stopped(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    gateway, slow, _, link = await slow_lab(lab)
    client = await started(lab, gateway, slow)
    size_bytes = 20 * MB
    before, connections = link.passed_bytes[DOWN], link.connections

    async def carried() -> int:
        return link.passed_bytes[DOWN] - before

    spec = spin(0.01)
    job_id = await client.submit(
        padded(modules["spin"], size_bytes), range(spec["shard_size"]), **spec
    )
    for part in (0.3, 0.6):
        await until(carried, lambda count, part=part: count > part * size_bytes, 120)
        link.reset()
    await completed(client, job_id, spec["shard_size"])
    print(f"{size_bytes} bytes took {await carried()} on the link, broken twice")
    assert link.connections >= connections + 2
    assert await carried() <= OVERHEAD * size_bytes
    await nothing_lost_or_doubled(gateway, {job_id: spec["shard_size"]}, [slow])
