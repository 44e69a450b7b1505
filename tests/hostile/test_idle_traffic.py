"""What a worker costs its network while it has nothing to do, counted on the socket."""

import asyncio
import functools
import time
from pathlib import Path

from swarm_hub.cli.swarm import free_port
from swarm_hub.client import SwarmClient
from swarm_hub.components.mesh import MESH
from tests.conftest import Swarm, until
from tests.helpers.swarms import EXPRESS, local_swarm
from tests.hostile.peers import peers_of

WATCHED_S = 20.0
# Telemetry and heartbeats of a phone on a metered connection: 29 MB a month.
MOST_BYTES_A_MINUTE = 20 * 1024


# Where the worker finds the ports that the gateway has on 127.0.0.1: an express connection goes to
# the address of its session.
HOST = "127.0.0.2"


class CountingProxy:
    """Carries bytes between a worker and a gateway, and counts them in both directions."""

    def __init__(self, *gateway_ports: int) -> None:
        self._gateway_ports = gateway_ports
        self.up_bytes = 0
        self.down_bytes = 0
        # When, which way and how much: what a failure shows.
        self.carried: list[str] = []
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        for port in self._gateway_ports:
            carry = functools.partial(self._carry, port)
            self._servers.append(await asyncio.start_server(carry, HOST, port))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    async def _carry(
        self, port: int, reader: asyncio.StreamReader, worker: asyncio.StreamWriter
    ) -> None:
        try:
            answers, gateway = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            # The gateway's mesh is not up yet; the worker comes again.
            worker.close()
            return
        self._writers |= {worker, gateway}
        self.carried.append(f"{time.monotonic():.1f} connected")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy(reader, gateway, up=True))
            group.create_task(self._copy(answers, worker, up=False))

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        try:
            while chunk := await reader.read(65536):
                self.carried.append(f"{time.monotonic():.1f} {'up' if up else 'down'} {len(chunk)}")
                self.up_bytes += len(chunk) if up else 0
                self.down_bytes += 0 if up else len(chunk)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


async def test_an_idle_worker_costs_at_most_twenty_kilobytes_a_minute(
    tmp_path: Path, swarm: Swarm
) -> None:
    """With every interval at its default: heartbeats of 5 s, telemetry of 10 s."""
    folder = tmp_path / "processes"
    folder.mkdir()
    local = local_swarm(folder)
    bulk_port = free_port()
    gateway = await asyncio.to_thread(
        local.start_gateway, mesh={"bulk": f"/ip4/127.0.0.1/tcp/{bulk_port}"}
    )
    proxy = CountingProxy(gateway.mesh_port, bulk_port)
    await proxy.open()
    try:
        async with SwarmClient(gateway.url, gateway.token) as client:
            await local.wait_for_workers(client, 0)
            worker = await swarm.start(
                "worker",
                "worker: {charging_only: false, min_battery: 0}\n"
                f"signer: {{trust: ['{gateway.public_key}']}}\n"
                "mesh: {listen: [/ip4/127.0.0.1/tcp/0], mdns: false,\n"
                f"  bootnodes: [/ip4/{HOST}/tcp/{gateway.mesh_port}/p2p/{gateway.peer_id}]}}\n",
            )
            await until(lambda: peers_of(worker), bool)

            async def is_measured() -> bool:
                # The gateway may know the peer, and not the node yet.
                nodes = await client.nodes()
                return any(node["telemetry"]["available_memory_bytes"] for node in nodes)

            async def is_quiet() -> bool:
                carried = proxy.up_bytes, proxy.down_bytes
                await asyncio.sleep(1)
                return carried == (proxy.up_bytes, proxy.down_bytes)

            async def is_express() -> bool:
                return worker.hub.services[MESH].is_express(gateway.peer_id)

            # The first measurements and subscriptions are part of joining, not of being idle.
            await until(is_measured, bool)
            await until(is_express, lambda found: found == EXPRESS)
            await until(is_quiet, bool)
            before = proxy.up_bytes, proxy.down_bytes
            proxy.carried.clear()
            await asyncio.sleep(WATCHED_S)
            up, down = proxy.up_bytes - before[0], proxy.down_bytes - before[1]
            (node,) = await client.nodes()
        minute = (up + down) * 60 / WATCHED_S
        print(f"idle: {up} B up, {down} B down in {WATCHED_S:.0f} s: {minute / 1024:.1f} KB/min")
        assert node["state"] == "up"
        assert node["telemetry"]["available_memory_bytes"]
        assert 0 < minute <= MOST_BYTES_A_MINUTE, proxy.carried
    finally:
        await swarm.stop_all()
        await proxy.close()
        await asyncio.to_thread(local.stop)
