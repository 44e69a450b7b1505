"""A client that is cut again and again, and a hub that restarts: every durable event once."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from swarm_hub.cli.swarm import free_port
from swarm_hub.storage.queries import events
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import finished, live, submit

SEED = 20_261_130
DISCONNECTS = 50
SHARDS = 120
# What a client meets whose hub is away, or goes at that moment.
LEFT = (aiohttp.ClientError, ConnectionError, TypeError, TimeoutError)


@dataclass
class Follower:
    """A client that leaves after a few messages, and resumes after what it saw last."""

    fields: dict[str, Any]
    random: random.Random
    seen: list[dict[str, Any]] = field(default_factory=list)
    disconnects: int = 0
    since: int = 0

    async def follow(self, running: "Running") -> None:
        """Follow the hub that runs."""
        while True:
            try:
                await self._connect(running.hub)
            except LEFT:
                # The hub is away, or was going.
                await asyncio.sleep(0.02)

    async def _connect(self, hub: RunningHub) -> None:
        async with live(hub) as client:
            answer = await client.command("subscribe_events", since=self.since, **self.fields)
            assert answer["result"]["events_lost"] is False
            got = len(self.seen)
            for _ in range(self.random.randint(1, 3)):
                event = (await client.socket.receive_json())["event"]
                if "seq" in event:
                    self.seen.append(event)
                    self.since = event["seq"]
            self.disconnects += len(self.seen) > got


@dataclass
class Running:
    """Which hub runs at the moment."""

    hub: RunningHub


async def stored(hub: RunningHub) -> AsyncIterator[Any]:
    """Yield every event of the store."""
    seq = 0
    while page := await hub.hub.store.read(events.since, seq, 1000):
        for event in page:
            yield event
        seq = page[-1].seq


async def test_fifty_disconnects_and_a_restart_lose_and_repeat_no_event(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    port = free_port()
    yaml = f"gateway: {{admission: open}}\napi: {{port: {port}}}\n"
    running = Running(await swarm.start("gateway", yaml, port))
    await swarm.worker("worker")
    spec = {"shard_size": 1, "labels": {"team": "blue"}}
    data = struct.pack(f"<{SHARDS}i", *range(SHARDS))
    _, job = await submit(running.hub, modules["sum"], data, spec)
    _, other = await submit(running.hub, modules["sum"], data[:80], {"shard_size": 1})
    filters: list[dict[str, Any]] = [
        {}, {"job_id": job["job_id"]}, {"label": {"team": "blue"}},
        {"event_type": ["shard_done", "job_completed"]},
    ]  # fmt: skip
    followers = [Follower(fields, random.Random(f"{SEED}{fields}")) for fields in filters]

    async def seen() -> int:
        return min(len(each.seen) for each in followers)

    tasks = [asyncio.create_task(each.follow(running)) for each in followers]
    try:
        await until(seen, lambda least: least >= 3, timeout_s=120)
        await swarm.stop(running.hub)
        running.hub = await swarm.start("gateway", yaml, port)
        for job_id in (job["job_id"], other["job_id"]):
            assert (await finished(running.hub, job_id))["state"] == "completed"

        every = [event async for event in stored(running.hub)]
        wanted = {
            str(filters[0]): every,
            str(filters[1]): [event for event in every if event.job_id == job["job_id"]],
            str(filters[2]): [event for event in every if event.job_id == job["job_id"]],
            str(filters[3]): [
                event for event in every if event.event_type in filters[3]["event_type"]
            ],
        }
        newest = {name: found[-1].seq for name, found in wanted.items()}

        async def behind() -> list[Follower]:
            for task in tasks:
                assert not task.done(), task.exception()
            return [each for each in followers if each.since < newest[str(each.fields)]]

        await until(behind, lambda found: not found, timeout_s=120)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for each in followers:
        expected = wanted[str(each.fields)]
        upto = [event for event in each.seen if event["seq"] <= expected[-1].seq]
        assert upto == [event.shape() for event in expected], each.fields
        assert each.disconnects >= DISCONNECTS
    assert len(wanted[str(filters[1])]) >= 2 * SHARDS
