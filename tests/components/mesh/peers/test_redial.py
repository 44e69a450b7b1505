"""Bootnodes: several addresses of one gateway are tried in turn, several gateways are all kept."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm, free_port
from swarm_hub.client import SwarmClient
from swarm_hub.components.mesh import MESH, PeerDown
from swarm_hub.components.mesh.peers import redial
from swarm_hub.components.mesh.peers.redial import Redialler, by_peer
from swarm_hub.components.mesh.transports.base import Transport
from swarm_hub.exceptions import MeshError
from swarm_hub.tasks import TaskSupervisor
from tests.conftest import Swarm, until
from tests.helpers.envelopes import peer_id, state_is
from tests.helpers.rest import call, finished, submit
from tests.helpers.swarms import local_swarm

Modules = dict[str, bytes]


class Road(Transport):
    """Dials what is open, and notes each try."""

    def __init__(self, *open_addresses: str) -> None:
        self.open = set(open_addresses)
        self.dialled: list[str] = []
        self.peers: set[str] = set()

    async def dial(self, address: str) -> str:
        self.dialled.append(address)
        if address not in self.open:
            raise MeshError("nobody answers")
        peer_id = address.rpartition("/p2p/")[2]
        self.peers.add(peer_id)
        return peer_id


@pytest.fixture
def local(tmp_path: Path, warm_hubs: None) -> Iterator[LocalSwarm]:
    made = local_swarm(tmp_path)
    yield made
    made.stop()


def test_addresses_are_grouped_by_the_peer_they_lead_to() -> None:
    found = by_peer(["/a/p2p/X", "/b/p2p/Y", "/c/p2p/X", "/memory/0/p2p/Z"])
    assert found == {"X": ["/a/p2p/X", "/c/p2p/X"], "Y": ["/b/p2p/Y"], "Z": ["/memory/0/p2p/Z"]}


async def test_the_addresses_of_a_peer_are_tried_in_their_order_until_one_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tasks, road = TaskSupervisor(), Road()
    redialler = Redialler(tasks, lambda peer: peer not in road.peers)
    redialler.keep(road, "X", ["/a/p2p/X", "/b/p2p/X", "/c/p2p/X"])

    async def dialled() -> int:
        return len(road.dialled)

    await until(dialled, lambda count: count >= 6)
    assert road.dialled[:6] == ["/a/p2p/X", "/b/p2p/X", "/c/p2p/X"] * 2
    road.open.add("/b/p2p/X")

    async def reached() -> bool:
        return "X" in road.peers

    await until(reached, bool)
    assert road.dialled[-2:] == ["/a/p2p/X", "/b/p2p/X"]
    said = [record.getMessage() for record in caplog.records]
    # Each address is named once while nobody answers, however often it is tried.
    for address in ("/a/p2p/X", "/b/p2p/X", "/c/p2p/X"):
        assert said.count(f"Can't reach {address} yet: nobody answers") == 1
    assert "Reached /b/p2p/X" in said
    await tasks.stop(1)


async def test_a_peer_that_answers_and_parts_is_tried_again_after_growing_pauses() -> None:
    tasks, road = TaskSupervisor(), Road("/a/p2p/X")
    # As a gateway that refuses: each session is over before anybody looks.
    redialler = Redialler(tasks, lambda _peer: True)
    began = asyncio.get_running_loop().time()
    redialler.keep(road, "X", ["/a/p2p/X"])

    async def dialled() -> int:
        return len(road.dialled)

    await until(dialled, lambda count: count >= 4)
    # Pauses of 0.25, 0.5 and 1 s, each cut to between a half and the whole.
    assert asyncio.get_running_loop().time() - began > 0.85
    await tasks.stop(1)


async def test_a_peer_that_is_lost_is_dialled_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever is dialled again before is dialled because its loss was told.
    monkeypatch.setattr(redial, "_LOOK_EVERY_S", 3600.0)
    tasks, road = TaskSupervisor(), Road("/a/p2p/X")
    looks = 0

    def is_wanted(peer: str) -> bool:
        nonlocal looks
        looks += 1
        return peer not in road.peers

    redialler = Redialler(tasks, is_wanted)
    redialler.keep(road, "X", ["/a/p2p/X"])

    async def dialled() -> int:
        return len(road.dialled)

    await until(dialled, lambda count: count == 1)
    seen = looks
    await asyncio.sleep(0.6)
    assert looks == seen, "while it is connected nobody looks"
    road.peers.clear()
    redialler.lost("X")
    await until(dialled, lambda count: count == 2)
    await tasks.stop(1)


async def test_what_mdns_saw_is_bounded_and_left_when_it_is_of_no_use() -> None:
    tasks, road = TaskSupervisor(), Road()
    redialler = Redialler(tasks, lambda peer: peer not in road.peers)
    for number in range(100):
        redialler.found(road, f"P{number}", [f"/a/p2p/P{number}"])

    async def tried() -> set[str]:
        return set(road.dialled)

    assert len(await until(tried, lambda found: len(found) >= 16)) == 16
    redialler.leave("P0")
    redialler.found(road, "P99", ["/a/p2p/P99"])
    await until(tried, lambda found: "/a/p2p/P99" in found)
    await tasks.stop(1)


async def test_with_one_gateway_down_work_goes_to_the_other_at_once(
    swarm: Swarm, modules: Modules
) -> None:
    first, second = await swarm.gateway("first"), await swarm.gateway("second")
    worker = await swarm.worker("worker", "first", "second")
    for each in (first, second):
        await state_is(each, peer_id(worker), "up")
    # It is connected to both before it is needed.
    assert set(worker.hub.services[MESH].peers()) == {peer_id(first), peer_id(second)}
    parted: list[PeerDown] = []
    worker.hub.bus.listen(PeerDown, parted.append)
    await swarm.stop(first)
    _, body = await submit(second, modules["primes"], b"0:100")
    async with asyncio.timeout(60):
        assert (await finished(second, body["job_id"]))["result"] == 25
    # At once: by the connection that was there, and by the first assignment of each shard.
    assert {each.peer_id for each in parted} == {peer_id(first)}
    _, found = await call(second, "GET", f"/jobs/{body['job_id']}/shards")
    assert [len(shard["attempts"]) for shard in found["shards"]] == [1] * len(found["shards"])
    # The first one is found again, and the second one kept.
    first = await swarm.gateway("first")
    for each in (first, second):
        await state_is(each, peer_id(worker), "up")


async def test_a_worker_gets_through_to_the_second_address_of_its_gateway(
    local: LocalSwarm,
) -> None:
    """Over TCP, with real processes: the first address is of a port that nobody listens on."""
    gateway = local.start_gateway()
    dead = LocalHub("dead", gateway.folder, gateway.peer_id, gateway.public_key, free_port())
    local.start_worker("worker", dead, gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await local.wait_for_workers(client, 1)
