"""A worker joins, and obeys, what a gateway that it trusts names; nobody else's word counts."""

from typing import Any

from swarm_hub.components.mesh import MESH
from swarm_hub.components.signer import SIGNER
from swarm_hub.models import messages
from swarm_hub.models.envelope import key_id
from swarm_hub.models.messages import GATEWAYS_MAX
from swarm_hub.storage.queries import keys
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import RunningHub, Swarm, until

KEYS = [SigningKey(bytes([number]) * 32).public_key for number in range(40)]
AT = "/ip4/10.0.0.9/tcp/4001"


def entry(swarm: Swarm, name: str, key: bytes = KEYS[0], at: str = AT) -> list[Any]:
    return [swarm.keys(name)[0], key, [at]]


async def tell(gateway: RunningHub, worker: RunningHub, entries: list[Any]) -> None:
    """Name gateways to a worker that is connected."""
    mesh, node_id = gateway.hub.services[MESH], worker.hub.services[MESH].peer_id

    async def is_here() -> bool:
        return mesh.is_admitted(node_id) and worker.hub.services[MESH].is_admitted(mesh.peer_id)

    await until(is_here, bool)
    fields = {"gateways": entries}
    gateway.hub.services[SIGNER].send(node_id, messages.GATEWAYS, fields)


def obeys(worker: RunningHub, key: bytes) -> bool:
    return worker.hub.services[SIGNER].trusts(key)


async def comes_to_obey(worker: RunningHub, key: bytes) -> None:
    async def read() -> bool:
        return obeys(worker, key)

    await until(read, bool)


async def test_what_a_trusted_gateway_names_is_obeyed_also_after_a_restart(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    await tell(gateway, worker, [entry(swarm, "second")])
    await comes_to_obey(worker, KEYS[0])
    await swarm.stop(worker)
    worker = await swarm.worker("worker")
    assert obeys(worker, KEYS[0])
    await swarm.stop(worker)
    # Its owner no longer trusts the one whose word it was.
    worker = await swarm.worker("worker", "other")
    assert not obeys(worker, KEYS[0])


async def test_the_word_of_a_gateway_that_is_not_trusted_counts_nothing(swarm: Swarm) -> None:
    trusted, stranger = await swarm.gateway(), await swarm.gateway("stranger")
    nodes = [f"/memory/0/p2p/{swarm.keys(name)[0]}" for name in ("gateway", "stranger")]
    worker = await swarm.start(
        "worker",
        f"worker: {{charging_only: false}}\nsigner: {{trust: ['{swarm.keys('gateway')[1]}']}}\n"
        f"mesh: {{transport: loopback, bootnodes: [{', '.join(nodes)}]}}\n",
    )
    await tell(stranger, worker, [entry(swarm, "second", KEYS[1])])
    await tell(trusted, worker, [entry(swarm, "second", KEYS[0])])
    await comes_to_obey(worker, KEYS[0])
    assert not obeys(worker, KEYS[1])


async def test_a_key_that_was_revoked_does_not_come_back_by_being_named(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    await tell(gateway, worker, [entry(swarm, "second", KEYS[0]), entry(swarm, "third", KEYS[1])])
    await comes_to_obey(worker, KEYS[1])
    revoked = {"keys": [[key_id(KEYS[0]), 0.0, "stolen"]]}
    node_id = worker.hub.services[MESH].peer_id
    gateway.hub.services[SIGNER].send(node_id, messages.REVOKED, revoked)

    async def still() -> bool:
        return obeys(worker, KEYS[0])

    await until(still, lambda now: not now)
    await tell(gateway, worker, [entry(swarm, "second", KEYS[0]), entry(swarm, "third", KEYS[2])])
    await comes_to_obey(worker, KEYS[2])
    assert not obeys(worker, KEYS[0])
    # A gateway has one key: what it was named with before counts no more.
    assert not obeys(worker, KEYS[1])


async def test_addresses_that_lead_nowhere_good_and_too_many_gateways_are_left_out(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    bad = ("/dns4/example.org/tcp/1", "/ip4/169.254.169.254/tcp/80", "/ip4/1.2.3.4/udp/1")
    named = [entry(swarm, f"bad-{n}", KEYS[30 + n], at) for n, at in enumerate(bad)]
    await tell(gateway, worker, named)
    # One that can't be read makes its message a fault of the sender.
    for odd in (["x" * 81, KEYS[0], [AT]], ["id", b"short", [AT]], ["id", KEYS[0], [AT] * 9], 7):
        await tell(gateway, worker, [entry(swarm, "odd", KEYS[35]), odd])
    for at in range(0, GATEWAYS_MAX + 2, 9):
        named = [entry(swarm, f"g{n}", KEYS[n]) for n in range(at, at + 9)]
        await tell(gateway, worker, named)
    await comes_to_obey(worker, KEYS[17])
    assert not any(obeys(worker, KEYS[30 + n]) for n in range(6))
    # The newest count.
    assert [obeys(worker, KEYS[n]) for n in range(18)].count(True) == GATEWAYS_MAX


async def test_an_owner_can_keep_a_worker_to_the_keys_that_were_configured(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    own = "worker: {charging_only: false, min_battery: 0, follow_gateways: false}\n"
    worker = await swarm.worker("worker", extra=own)
    await tell(gateway, worker, [entry(swarm, "second")])
    # What was sent after it is heard after it.
    revoked = {"keys": [[key_id(KEYS[1]), 0.0, "a sign"]]}
    node_id = worker.hub.services[MESH].peer_id
    gateway.hub.services[SIGNER].send(node_id, messages.REVOKED, revoked)
    await until(lambda: worker.hub.store.read(keys.revoked), bool)
    assert not obeys(worker, KEYS[0])
