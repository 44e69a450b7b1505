"""The way between worker and gateway is long and lossy, moves, or leads to one of two gateways."""

import asyncio
import subprocess
import time
from datetime import datetime
from typing import Final

import pytest

from swarm_hub.components.mesh.wire.limits import TransportLimits
from tests.conftest import until
from tests.networks.lab import MESH_PORT, Device, Lab, NetworkHub
from tests.networks.link import Quality
from tests.networks.work import (
    completed,
    finished_by,
    listening,
    nothing_lost_or_doubled,
    shards_done,
    shards_in_inbox,
    spin,
    started,
    up,
)

pytestmark = pytest.mark.timeout(300)

GIVEN_UP_AFTER_S: Final = TransportLimits().dial_timeout_s


async def test_a_job_is_done_over_300_ms_with_5_percent_loss(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    centre, away = lab.device("gateway"), lab.device("away")
    cable = lab.cable(centre, away)
    gateway = lab.gateway(centre, "  bulk: false\n")
    quality = Quality(delay_s=0.15, loss=0.05, bytes_a_second=1_000_000)
    await lab.link(away, centre, cable.first_address, quality)
    # It listens nowhere that the link does.
    worker = lab.worker(away, [(gateway, "127.0.0.1")], listen=cable.second_address)
    client = await started(lab, gateway, worker)
    spec = spin(0.1)
    n_items = 30 * spec["shard_size"]
    job_id = await client.submit(modules["spin"], range(n_items), **spec)
    await completed(client, job_id, n_items)
    (node,) = await until(client.nodes, lambda nodes: nodes[0]["rtt_ms"] is not None)
    assert node["rtt_ms"] >= 300
    # It was slow, and was never taken for gone.
    assert ") disconnected: " not in gateway.log() + worker.log()
    await nothing_lost_or_doubled(gateway, {job_id: n_items}, [worker])


async def test_a_worker_whose_address_changes_keeps_its_work(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    centre, roaming = lab.device("gateway"), lab.device("roaming")
    cable = lab.cable(centre, roaming)
    gateway = lab.gateway(centre)
    # Long beats, so that it is not they who notice.
    worker = lab.worker(roaming, [(gateway, cable.first_address)], "  heartbeat: 5\n")
    client = await started(lab, gateway, worker)
    spec = spin(0.5)
    n_items = 12 * spec["shard_size"]
    job_id = await client.submit(modules["spin"], range(n_items), **spec)
    await until(lambda: shards_done(client, job_id), lambda done: done >= 1)
    await until(lambda: shards_in_inbox(worker, job_id), bool)

    network = cable.second_address.rpartition(".")[0]
    roaming.ip("address", "del", f"{cable.second_address}/24", "dev", cable.interface)
    roaming.ip("address", "add", f"{network}.3/24", "dev", cable.interface)
    moved_at = time.monotonic()

    def peers_of_gateway() -> set[str]:
        return addresses_connected_to(centre, cable.first_address)

    await until(
        lambda: asyncio.to_thread(peers_of_gateway), lambda found: found == {f"{network}.3"}, 20
    )
    assert f"{gateway.peer_id}) disconnected: this device's address has changed" in worker.log()
    print(f"connected from the new address after {time.monotonic() - moved_at:.1f} s")
    await completed(client, job_id, n_items)
    # The same node, and its old connection gave way before the gateway missed it.
    assert [node["node_id"] for node in await client.nodes()] == [worker.peer_id]
    assert f"{worker.peer_id}) disconnected: replaced by a newer connection" in gateway.log()
    await nothing_lost_or_doubled(gateway, {job_id: n_items}, [worker])


def addresses_connected_to(device: Device, address: str) -> set[str]:
    """Return from where connections to a device's mesh are open."""
    shown = subprocess.run(
        ["ip", "netns", "exec", device.namespace, "ss", "-Htn", "state", "established", "src",
         address], capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {line.split()[-1].rpartition(":")[0] for line in shown.stdout.splitlines()}


async def test_a_worker_of_two_gateways_works_for_the_one_that_is_there(
    lab: Lab, modules: dict[str, bytes]
) -> None:
    middle = lab.device("worker")
    gateways, hosts = [], []
    for name in ("first", "second"):
        device = lab.device(name)
        hosts.append(lab.cable(device, middle).first_address)
        gateways.append(lab.gateway(device))
    first, second = gateways
    worker = lab.worker(middle, list(zip(gateways, hosts, strict=True)))
    assert first.device is not None
    spec = spin(0.1)
    n_items = 10 * spec["shard_size"]
    # A frozen device: it takes connections and never says a word, so a try lasts 10 s.
    with first.device.listener(MESH_PORT, hosts[0]):
        second.start()
        await listening(second)
        worker.start()
        client = await lab.client(second)
        await up(client, worker)
        job = await client.submit(modules["spin"], range(n_items), **spec)
        await completed(client, job, n_items)
    began = logged_at(worker, "Listening on")
    assert logged_at(worker, f"({second.peer_id}) connected") - began < GIVEN_UP_AFTER_S / 2

    first.start()
    other = await lab.client(first)
    await up(other, worker)
    jobs = [await each.submit(modules["spin"], range(n_items), **spec) for each in (other, client)]
    await completed(other, jobs[0], n_items)
    await completed(client, jobs[1], n_items)
    assert (await finished_by(other, jobs[0])).keys() == {worker.peer_id}
    await nothing_lost_or_doubled(first, {jobs[0]: n_items}, [worker])
    await nothing_lost_or_doubled(second, {job: n_items, jobs[1]: n_items}, [worker])


def logged_at(hub: NetworkHub, text: str) -> float:
    """Return when a hub first logged a text, in seconds since the epoch."""
    line = next(line for line in hub.log().splitlines() if text in line)
    return datetime.fromisoformat(line[:23].replace(",", ".")).astimezone().timestamp()
