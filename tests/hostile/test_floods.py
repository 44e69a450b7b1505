"""A peer that floods: the gateway's memory stays flat and the others are served meanwhile."""

import asyncio
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import cbor2
import psutil
import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient
from swarm_hub.components.mesh import MESH, Mesh
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.telemetry.board import TOPIC
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.swarms import EXPRESS, local_swarm
from tests.hostile.peers import peers_of

# A test takes half a minute, and several times that where other programs want the processors too.
pytestmark = pytest.mark.timeout(300)

MB = 1_000_000
ROOT = Path(__file__).parents[2]


@dataclass
class Watched:
    """A gateway in a process of its own, an honest peer here, and what both went through."""

    gateway: LocalHub
    honest: Mesh
    peaks: list[int] = field(default_factory=list)
    answers_s: list[float] = field(default_factory=list)
    answers_cpu_s: list[float] = field(default_factory=list)

    @property
    def rss(self) -> int:
        return int(psutil.Process(self.gateway.pid).memory_info().rss)

    @property
    def cpu_s(self) -> float:
        """How long the gateway has computed: on a busy machine time passes without it."""
        return sum(psutil.Process(self.gateway.pid).cpu_times()[:2])

    async def watch(self) -> None:
        """Ask the gateway again and again, and keep how long it took and how large it was."""
        while True:
            before = await self.round_trip_s()
            began = asked_at = time.monotonic()
            began_cpu_s = self.cpu_s
            self.honest.send(self.gateway.peer_id, "heartbeat", {"t": began})
            while await self.round_trip_s() == before:
                await asyncio.sleep(0.005)
                # One that comes right after the hub's own is not answered.
                if time.monotonic() - asked_at > 0.3:
                    asked_at = time.monotonic()
                    self.honest.send(self.gateway.peer_id, "heartbeat", {"t": asked_at})
            self.answers_s.append(time.monotonic() - began)
            self.answers_cpu_s.append(self.cpu_s - began_cpu_s)
            self.peaks.append(self.rss)
            await asyncio.sleep(0.05)

    async def sizes(self) -> int:
        """Return how often the gateway was looked at."""
        return len(self.peaks)

    async def round_trip_s(self) -> float | None:
        return self.honest.rtt_s(self.gateway.peer_id)


async def join(swarm: Swarm, name: str, gateway: LocalHub) -> RunningHub:
    """Start a worker hub of this process that knows the gateway."""
    running = await swarm.start(
        name,
        "worker: {charging_only: false, min_battery: 0}\n"
        f"signer: {{trust: ['{gateway.public_key}']}}\ntelemetry: {{interval: 3600}}\n"
        f"mesh: {{listen: [/ip4/127.0.0.1/tcp/0], bootnodes: ['{gateway.address}'],\n"
        "  mdns: false}\n",
    )
    # The gateway's API is there before its mesh is, which has libp2p to import.
    await until(lambda: peers_of(running), bool, 90)
    return running


@pytest.fixture
async def watched(tmp_path: Path, swarm: Swarm) -> AsyncIterator[Watched]:
    folder = tmp_path / "processes"
    folder.mkdir()
    local = local_swarm(folder)
    gateway = await asyncio.to_thread(local.start_gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await local.wait_for_workers(client, 0)
        honest = await join(swarm, "honest", gateway)
        await local.wait_for_workers(client, 1)
    yield Watched(gateway, honest.hub.services[MESH])
    print(gateway.log())
    await swarm.stop_all()
    await asyncio.to_thread(local.stop)


async def attack(
    mode: str, gateway: LocalHub, seconds: float, began: asyncio.Event
) -> dict[str, Any]:
    """Run an attacker to its end; returns what it says."""
    module = "express_attacker" if mode == "all" else "attacker"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.hostile.{module}", mode, gateway.address, str(seconds),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(150):
        assert await process.stdout.readline() == b"attacking\n"
        began.set()
        out, _ = await process.communicate()
    told: dict[str, Any] = json.loads(out)
    return told


async def through(
    watched: Watched, mode: str, seconds: float, began: asyncio.Event | None = None
) -> dict[str, Any]:
    """Attack while the gateway is watched; assert what holds for every attack."""
    watching = asyncio.create_task(watched.watch())
    await until(watched.sizes, lambda seen: seen > 5, 60)
    before = watched.rss
    told = await attack(mode, watched.gateway, seconds, began or asyncio.Event())
    watching.cancel()
    await asyncio.wait([watching])
    grown, slowest = max(watched.peaks) - before, max(watched.answers_s)
    usual, costliest = statistics.median(watched.answers_s), max(watched.answers_cpu_s)
    print(
        f"{mode}: {told}; grew {grown / MB:.1f} MB, slowest answer {slowest * 1000:.0f} ms, "
        f"usual {usual * 1000:.0f} ms, costliest {costliest * 1000:.0f} ms of CPU"
    )
    assert grown < 50 * MB
    assert len(watched.answers_s) > 10
    # A second of the gateway's own, whatever else this machine does. What made answers wait without
    # computing would do so to the usual one too.
    assert costliest < 1.0
    assert usual < 1.0
    assert watched.gateway.peer_id in watched.honest.peers()
    return told


async def test_ten_thousand_streams_of_one_peer(watched: Watched) -> None:
    told = await through(watched, "streams", 15)
    assert told["opened"] >= 1000
    assert "flooding: 1000 streams beyond 32 at a time" in watched.gateway.log()


async def test_a_frame_of_a_hundred_megabytes(watched: Watched) -> None:
    told = await through(watched, "frame", 15)
    assert told["sent_bytes"] < 10 * MB
    assert "a frame of 100000000 bytes" in " ".join(told["reasons"]) or told["error"]


async def test_as_many_messages_as_the_connection_takes(watched: Watched) -> None:
    # It ends with the peer that is let go, which takes ten seconds where it can send enough.
    told = await through(watched, "messages", 40)
    assert told["sent"] > 100_000
    # On a machine that is too busy to send more than a peer may, nobody is let go.
    if told["sent"] > 40 * 50_000 or told["reasons"]:
        assert "flooding: more than 40000 messages" in watched.gateway.log()


async def test_a_thousand_gossip_messages_a_second(watched: Watched, swarm: Swarm) -> None:
    honest = [watched.honest] + [
        (await join(swarm, f"honest-{number}", watched.gateway)).hub.services[MESH]
        for number in range(2)
    ]
    heard: defaultdict[str, set[float]] = defaultdict(set)
    listening = asyncio.create_task(listen(watched.gateway, heard))

    async def publish(load: float) -> None:
        for mesh in honest:
            await mesh.publish(TOPIC, cbor2.dumps({"load_1m": load}))

    async def all_are_heard() -> bool:
        await publish(0.5)
        return all(0.5 in heard[mesh.peer_id] for mesh in honest)

    await until(all_are_heard, bool, 60)
    began = asyncio.Event()
    attacking = asyncio.create_task(through(watched, "gossip", 8, began))
    beginning = asyncio.create_task(began.wait())
    await asyncio.wait([attacking, beginning], return_when=asyncio.FIRST_COMPLETED)
    beginning.cancel()
    published = 0
    while not attacking.done():
        published += 1
        # Far above any load that a hub measures.
        await publish(1e6 + published)
        await asyncio.sleep(0.1)
    told = await attacking

    async def fewest() -> float:
        return min(sum(load > 1e6 for load in heard[mesh.peer_id]) for mesh in honest) / published

    share = await until(fewest, lambda share: share >= 0.99, 60)
    print(f"{told['per_s']} messages/s from one; of {published} each others' {share:.1%} arrived")
    listening.cancel()
    await asyncio.wait([listening])
    assert told["per_s"] > 10 * TransportLimits().max_gossip_per_s
    log = watched.gateway.log()
    assert f"Hearing no gossip of {told['peer_id']}" in log
    for mesh in honest:
        assert f"Hearing no gossip of {mesh.peer_id}" not in log


async def listen(gateway: LocalHub, heard: dict[str, set[float]]) -> None:
    """Keep the loads that the gateway tells its clients of, by node."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{gateway.url}/api/websocket") as socket,
    ):
        await socket.receive_json()
        await socket.send_json({"type": "auth", "access_token": gateway.token})
        await socket.receive_json()
        await socket.send_json({"id": 1, "type": "subscribe_events"})
        async for message in socket:
            content = json.loads(message.data)
            event = content.get("event") or {}
            if event.get("event_type") == "telemetry":
                heard[event["data"]["node_id"]].add(event["data"]["load_1m"])


@pytest.mark.skipif(not EXPRESS, reason="the hubs are to do without the express plane")
async def test_admitted_peers_that_misuse_the_express_plane(
    watched: Watched, modules: dict[str, bytes]
) -> None:
    async def is_express() -> bool:
        return watched.honest.is_express(watched.gateway.peer_id)

    await until(is_express, bool, 60)
    async with SwarmClient(watched.gateway.url, watched.gateway.token) as client:
        attacking = asyncio.create_task(through(watched, "all", 4))
        answers_s, answers_cpu_s, jobs = [], [], 0
        while not attacking.done():
            began, began_cpu_s = time.monotonic(), watched.cpu_s
            assert (await client.health())["state"] == "running"
            answers_s.append(time.monotonic() - began)
            answers_cpu_s.append(watched.cpu_s - began_cpu_s)
            assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
            jobs += 1
        told = await attacking
    print(f"{jobs} jobs; health: usual {statistics.median(answers_s):.3f}, {max(answers_s):.3f} s")
    assert jobs > 3
    assert max(answers_cpu_s) < 1.0
    assert statistics.median(answers_s) < 1.0
    # The honest one has kept its connection, and each of the others came as far as it wanted.
    assert await is_express()
    assert all(told[mode]["proven"] for mode in ("silent", "flapping", "commanding", "telemetry"))
    assert told["to_and_fro"]["proven"] > 1
    assert told["asking"]["asked"] > 500 or told["asking"]["reasons"]
    assert "Traceback" not in watched.gateway.log()
