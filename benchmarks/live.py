"""What the websocket costs: events to 1, 100 and 1,000 clients, and 1,000 clients beside a load.

    python benchmarks/live.py [--quick] [--json] [--load SECONDS] [--compress]

The hub is a process of its own on loopback; a component that is written into its directory fires
the events. The clients are here, and read whatever comes, but for one beside the load that never
reads.
"""

import argparse
import asyncio
import itertools
import json
import resource
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from figures import Figures, percentile, start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

_ROOT = Path(__file__).parents[1]
_MIB = 1024 * 1024
_PER_TURN = 20
_SUBMITS_PER_S = 20
_GROWTH_MIB = 64
# So many messages may wait for a client.
_PENDING_MAX = 4096
_API = {"connections": "3000", "connections_per_ip": "3000"}
_PULSE = '''"""Fires events for a benchmark."""

import asyncio

import voluptuous as vol

from swarm_hub.endpoints import Command, Scope
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.event import EphemeralEvent

CONFIG_SCHEMA = cv.section({}, dict)
# As large as an event of a shard.
DATA = {"job_id": None, "node_id": "12D3KooW" + "x" * 44, "index": 17, "n_items": 1000,
        "wall_s": 0.1234, "text": "x" * 40}


async def async_setup(hub, config):
    async def fire(call):
        for number in range(call.params["count"]):
            hub.bus.fire(EphemeralEvent("pulse", {**DATA, "number": number}))
            if number % call.params["per_turn"] == 0:
                await asyncio.sleep(0)

    params = {vol.Required("count"): int, vol.Required("per_turn"): int}
    hub.endpoints.add_command(Command("pulse", fire, Scope.ADMIN, params, type(None)))
    if hasattr(hub.endpoints, "add_event_type"):
        hub.endpoints.add_event_type("pulse")
    return True
'''


class Reader(asyncio.Protocol):
    """A websocket client that counts messages."""

    def __init__(self, host: str, token: str, *, compress: bool) -> None:
        self._host = host
        self._token = token
        self._extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if compress else ""
        self._rest = b""
        self._upgraded = False
        self.messages = 0
        self.ready = asyncio.Event()
        self.lost = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a websocket."""
        self.transport = transport
        self.transport.write(
            f"GET /api/websocket HTTP/1.1\r\nHost: {self._host}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n{self._extension}\r\n".encode()
        )

    def say(self, content: dict[str, Any]) -> None:
        """Send a message, masked with zeros."""
        text = json.dumps(content).encode()
        head = (
            bytes((0x81, 0x80 | len(text)))
            if len(text) < 126
            else (struct.pack("!BBH", 0x81, 0xFE, len(text)))
        )
        self.transport.write(head + bytes(4) + text)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        """Count the messages in it."""
        data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self._upgraded = True
            self.say({"type": "auth", "access_token": self._token})
            self.say({"id": 1, "type": "subscribe_events"})
        at, size = 0, len(data)
        while at + 2 <= size:
            length, head_bytes = data[at + 1], 2
            if length == 126:
                length, head_bytes = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif length == 127:
                length, head_bytes = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            if at + head_bytes + length > size:
                break
            if data[at] & 0x0F == 1:
                self.messages += 1
                # auth_required, auth_ok, the result.
                if self.messages == 3:
                    self.ready.set()
            else:
                # A ping is answered.
                self.transport.write(bytes((0x8A, 0x80)) + bytes(4))
            at += head_bytes + length
        self._rest = data[at:]


class Clients:
    """So many readers of one hub."""

    def __init__(self, hub: LocalHub, *, compress: bool) -> None:
        self._hub = hub
        self._compress = compress
        self.readers: list[Reader] = []

    async def grow(self, count: int) -> None:
        """Connect until there are so many."""
        loop = asyncio.get_running_loop()
        host, _, port = self._hub.url.removeprefix("http://").partition(":")
        while len(self.readers) < count:
            _, reader = await loop.create_connection(
                lambda: Reader(host, self._hub.token, compress=self._compress), host, int(port)
            )
            self.readers.append(reader)
            await asyncio.wait_for(reader.ready.wait(), 30)

    def received(self) -> int:
        """Return how many messages all have got."""
        return sum(reader.messages for reader in self.readers)

    def close(self) -> None:
        """Leave."""
        for reader in self.readers:
            reader.transport.abort()


async def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so; fail after a minute."""
    give_up_at = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > give_up_at:
            raise SystemExit("it took longer than a minute")
        await asyncio.sleep(0.001)


def cpu_s(hub: LocalHub) -> float:
    """Return how long the hub has computed."""
    return sum(psutil.Process(hub.pid).cpu_times()[:2])


def rss(hub: LocalHub) -> int:
    """Return the memory of the hub's process in bytes."""
    return int(psutil.Process(hub.pid).memory_info().rss)


@asynccontextmanager
async def commanding(hub: LocalHub) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Give a way to send commands, one after the other."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{hub.url}/api/websocket") as websocket,
    ):
        await websocket.receive()
        await websocket.send_json({"type": "auth", "access_token": hub.token})
        await websocket.receive()
        ids = itertools.count(1)

        async def command(kind: str, **fields: int) -> None:
            await websocket.send_json({"id": next(ids), "type": kind, **fields})
            await websocket.receive()

        yield command


async def spread(figures: Figures, hub: LocalHub, clients: Clients, deliveries: int) -> None:
    """Fire events, and see how long it takes until all clients have all."""
    count = len(clients.readers)
    events = max(_PER_TURN, deliveries // count)
    before, began, spent_s = clients.received(), time.monotonic(), cpu_s(hub)
    async with commanding(hub) as command:
        for number in range(0, events, 1000):
            much = min(1000, events - number)
            await command("pulse", count=much, per_turn=_PER_TURN)
            await until(lambda due=before + (number + much) * count: clients.received() >= due)
    took_s, spent_s = time.monotonic() - began, cpu_s(hub) - spent_s
    figures.add(f"events_per_s_{count}_clients", events * count / took_s, "1/s", better="higher")
    figures.add(f"cpu_us_per_delivery_{count}", spent_s / events / count * 1e6, "us", events=events)


async def beside_a_load(
    figures: Figures, hub: LocalHub, swarm: LocalSwarm, clients: Clients, seconds: float
) -> None:
    """Submit jobs and ask for the health while all follow and one does not read."""
    module = await with_sandbox(
        lambda sandbox: sandbox.assemble((_ROOT / "examples/primes/primes.wat").read_text())
    )
    host, _, port = hub.url.removeprefix("http://").partition(":")
    stalled = socket.create_connection((host, int(port)))
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(
        lambda: Reader(host, hub.token, compress=False), sock=stalled
    )
    await reader.ready.wait()
    reader.transport.pause_reading()
    # The health asks the store too, which waits for the disk; a ping does not.
    asked_s: list[float] = []
    pinged_s: list[float] = []
    sizes = [rss(hub)]
    jobs = 0
    async with SwarmClient(hub.url, hub.token) as swarm_client, commanding(hub) as command:
        swarm.start_worker("worker", hub)
        await swarm.wait_for_workers(swarm_client, 1)
        began, before, spent_s = time.monotonic(), clients.received(), cpu_s(hub)
        me = psutil.Process()
        mine_s = sum(me.cpu_times()[:2])

        async def submit() -> None:
            await swarm_client.submit(module, range(100), reduce="sum")

        async def ask() -> None:
            while time.monotonic() - began < seconds:
                at = time.monotonic()
                await swarm_client.health()
                asked_s.append(time.monotonic() - at)
                at = time.monotonic()
                await command("ping")
                pinged_s.append(time.monotonic() - at)
                sizes.append(rss(hub))
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            while time.monotonic() - began < seconds:
                group.create_task(submit())
                jobs += 1
                await asyncio.sleep(max(0.0, began + jobs / _SUBMITS_PER_S - time.monotonic()))
        took_s = time.monotonic() - began
        hub_s = cpu_s(hub) - spent_s
    deliveries = clients.received() - before
    context = {"seconds": round(took_s), "jobs": jobs, "stalled_messages": reader.messages}
    figures.add("load_health_p50_ms", percentile(asked_s, 0.5) * 1e3, "ms", **context)
    figures.add("load_health_p99_ms", percentile(asked_s, 0.99) * 1e3, "ms", target=100)
    figures.add("load_ping_p99_ms", percentile(pinged_s, 0.99) * 1e3, "ms", target=100)
    figures.add("load_events_per_s", deliveries / took_s, "1/s", better="higher")
    figures.add("load_hub_cpu_percent", hub_s / took_s * 100, "%")
    figures.add("load_clients_cpu_percent", (sum(me.cpu_times()[:2]) - mine_s) / took_s * 100, "%")
    figures.add("load_rss_mib", max(sizes) / _MIB, "MiB", begins=round(sizes[0] / _MIB, 1))
    growth = (max(sizes) - sizes[0]) / _MIB
    figures.add("load_rss_growth_mib", growth, "MiB", target=_GROWTH_MIB)
    if growth > _GROWTH_MIB:
        raise SystemExit("the hub grew without a bound")
    if deliveries > _PENDING_MAX * len(clients.readers):
        reader.transport.resume_reading()
        await asyncio.wait_for(reader.lost.wait(), 30)
    reader.transport.abort()


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides."""
    parser.add_argument("--load", type=float, default=0.0, help="seconds beside a load")
    parser.add_argument("--compress", action="store_true", help="the clients ask for compression")


async def main() -> None:
    """Print the figures."""
    figures, arguments = start(__doc__ or "", options)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        home = Path(folder) / "gateway" / "custom_components" / "pulse"
        home.mkdir(parents=True)
        (home / "__init__.py").write_text(_PULSE)
        manifest = {"domain": "pulse", "name": "Pulse", "version": "1", "documentation": "none"}
        (home / "manifest.json").write_text(json.dumps(manifest))
        swarm = LocalSwarm(Path(folder))
        try:
            hub = swarm.start_gateway(extra="pulse:\n", api=_API)
            await until(lambda: "is ready" in hub.log())
            clients = Clients(hub, compress=arguments.compress)
            deliveries = 20_000 if arguments.quick else 200_000
            for count in (1, 100, 1000):
                before, at = rss(hub), len(clients.readers)
                await clients.grow(count)
                kib = (rss(hub) - before) / 1024 / (count - at)
                await spread(figures, hub, clients, deliveries if count > 1 else deliveries // 10)
                if count > 1:
                    figures.add(f"kib_per_client_{count}", kib, "KiB")
            if arguments.load:
                await beside_a_load(figures, hub, swarm, clients, arguments.load)
            clients.close()
        finally:
            swarm.stop()


if __name__ == "__main__":
    asyncio.run(main())
