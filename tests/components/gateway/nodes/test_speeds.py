"""How fast a node runs a module is known again when it, or the gateway, comes back."""

from swarm_hub.components.gateway import JOBS
from swarm_hub.models.node import ProgramSpeed
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


async def test_speeds_survive_a_new_connection_and_a_restart_of_the_gateway(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["state"] == "completed"
    node_id = swarm.keys("worker")[0]

    async def speeds() -> tuple[ProgramSpeed, ...]:
        return speeds_at(gateway, node_id)

    # What was measured last is noted when the node leaves.
    known = await until(speeds, bool)
    assert known[0].rate > 0
    assert await shown(gateway) == (10, [known[0].rate])
    await swarm.stop(worker)
    assert await shown(gateway) == (0, [known[0].rate])
    worker = await swarm.worker("worker")
    assert await until(speeds, bool) == known
    await swarm.stop(worker)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    assert await until(speeds, bool) == known


async def shown(gateway: RunningHub) -> tuple[int, list[float]]:
    """Return how many shards a client sees that the node has done, and how fast it is."""
    _, body = await call(gateway, "GET", "/nodes")
    (node,) = body["nodes"]
    return node["shards_done"], [each["items_per_s"] for each in node["speeds"]]


def speeds_at(gateway: RunningHub, node_id: str) -> tuple[ProgramSpeed, ...]:
    entry = gateway.hub.services[JOBS]._machine.node(node_id)
    return () if entry is None else tuple(entry.speeds.values())
