"""Bursts of connections that prove nothing, beside workers that join: each gets its own at last."""

import asyncio
import contextlib
import os
import random

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.mesh.express import plane as plane_module
from tests.conftest import RunningHub, Swarm, free_port, until
from tests.helpers.envelopes import peer_id
from tests.helpers.rest import finished, submit

_LIBP2P = "transport: libp2p, listen: [/ip4/127.0.0.1/tcp/0], mdns: false"
# Beside that of the workers themselves.
_ADDRESSES = ["127.0.0.1", *(f"127.0.2.{number}" for number in range(1, 31))]
_AT_ONCE = 200


async def bursts(port: int, rng: random.Random) -> None:
    """Connect to the port again and again, many at once, with all sorts of openings."""
    while True:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(one(port, rng))


async def one(port: int, rng: random.Random) -> None:
    opening = rng.choice([b"", b"SHX1", b"SHB3", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4)])
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(rng.choice(_ADDRESSES), 0)
        )
        try:
            writer.write(opening + os.urandom(rng.choice([0, 16, 83, 200])))
            await asyncio.sleep(rng.uniform(0.0, 0.3))
        finally:
            writer.transport.abort()


async def test_workers_that_join_beside_bursts_get_their_connections_at_last(
    swarm: Swarm, modules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_module, "_AGAIN_S", (0.1, 0.5))
    api_port = free_port()
    gateway = await swarm.start(
        "gateway",
        f"gateway: {{admission: open}}\napi: {{port: {api_port}}}\n"
        f"mesh: {{{_LIBP2P}, bulk: /ip4/127.0.0.1/tcp/0}}\n",
        api_port,
    )
    mesh = gateway.hub.services[MESH]

    async def addresses() -> tuple[str, ...]:
        return mesh.addresses()

    address = (await until(addresses, bool))[0]
    _, key = swarm.keys("gateway")
    bursting = asyncio.create_task(bursts(mesh._listener.port, random.Random(7)))
    workers: list[RunningHub] = [
        await swarm.start(
            f"worker-{number}",
            "worker: {charging_only: false, min_battery: 0}\n"
            f"signer: {{trust: ['{key}']}}\nmesh: {{{_LIBP2P}, bootnodes: [{address}]}}\n",
        )
        for number in range(3)
    ]
    # Work goes on meanwhile, whichever way it takes.
    _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 78
    assert not bursting.done()
    bursting.cancel()
    await asyncio.wait([bursting])

    async def express() -> set[str]:
        return {peer for peer in mesh.peers() if mesh.is_express(peer)}

    await until(express, lambda found: found == {peer_id(worker) for worker in workers})
    _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 78

    async def unproven() -> int:
        return sum(each.count for each in mesh._listener._unproven.values())

    # Nothing of the others is kept.
    await until(unproven, lambda count: count == 0)
    assert mesh._listener._open <= len(workers)
