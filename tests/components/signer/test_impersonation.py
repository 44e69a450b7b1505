"""Nobody wears the key of another: what a peer must prove of a key before it counts as its own."""

import os
from dataclasses import replace

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.signer import SIGNER
from swarm_hub.models import messages
from swarm_hub.models.envelope import key_id, sign
from swarm_hub.models.rotation import TYPE_SUCCESSOR, Rotation, make_rotation
from swarm_hub.storage.queries import nodes
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import key_of, met, pair, peer_id
from tests.helpers.newcomer import Newcomer
from tests.helpers.rest import call

pytestmark = pytest.mark.slow

DAY_S = 86_400


def successor(peer: Newcomer, new: SigningKey, hub: RunningHub, overlap_s: int = 3600) -> Rotation:
    at = int(hub.clock.time())
    return make_rotation(peer.key, new, peer_id=peer.peer_id, at=at, overlap_s=overlap_s)


def shown_key(hub: RunningHub, peer: str) -> bytes | None:
    hello = hub.hub.services[MESH].peers().get(peer)
    return None if hello is None else hello.public_key


async def stored_key(hub: RunningHub, peer: str) -> bytes | None:
    node = await hub.hub.store.read(nodes.get, peer)
    return None if node is None else node.public_key


async def came_to_show(hub: RunningHub, peer: str, key: SigningKey) -> None:
    async def shown() -> bytes | None:
        return shown_key(hub, peer)

    await until(shown, lambda found: found == key.public_key)


@pytest.mark.parametrize("accepted_by", ["nobody", "the stranger", "version 2"])
async def test_a_stranger_does_not_name_a_trusted_key_its_own(
    swarm: Swarm, accepted_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the kid of the gateway it would get results of the worker, and their blobs."""
    gateway, worker = await pair(swarm)
    trusted = key_of(gateway).public_key
    stranger = Newcomer(worker, 7)
    stranger.capabilities = {"gateway": {}}
    await stranger.admitted(worker)
    claimed = successor(stranger, key_of(gateway), worker)
    wire = {
        "nobody": replace(claimed, accepted=b"").to_wire(),
        "the stranger": replace(
            claimed, accepted=sign(stranger.key, TYPE_SUCCESSOR, claimed.statement)
        ).to_wire(),
        "version 2": claimed.to_wire()[:2],
    }[accepted_by]
    stranger.sign(messages.ROTATED, {"rotations": [wire]})

    async def ended() -> list[str]:
        return stranger.ended

    assert "key rotation" in (await until(ended, bool))[0]
    assert "Refused a key rotation" in caplog.text
    assert shown_key(worker, stranger.peer_id) != trusted
    assert await stored_key(worker, stranger.peer_id) == stranger.key.public_key
    assert worker.hub.services[SIGNER].trusts(trusted)
    await stranger.transport.stop()


async def test_a_new_key_is_a_peers_once_it_has_signed_an_envelope(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    peer, new = Newcomer(gateway, 7), SigningKey(os.urandom(32))
    await peer.admitted(gateway)
    wire = successor(peer, new, gateway).to_wire()
    peer.sign(messages.ROTATED, {"rotations": [wire]})

    async def stored() -> bytes | None:
        return await stored_key(gateway, peer.peer_id)

    await until(stored, lambda found: found == new.public_key)
    assert shown_key(gateway, peer.peer_id) == peer.key.public_key
    peer.sign(messages.ROTATED, {"rotations": [wire]}, new)
    await came_to_show(gateway, peer.peer_id, new)
    await peer.transport.stop()


async def test_a_rotation_in_a_live_session_outlives_the_gateway_and_the_overlap(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    peer, new = Newcomer(gateway, 7), SigningKey(os.urandom(32))
    await peer.admitted(gateway)
    for key in (peer.key, new):
        wire = successor(peer, new, gateway).to_wire()
        peer.sign(messages.ROTATED, {"rotations": [wire]}, key)
    await came_to_show(gateway, peer.peer_id, new)
    await peer.leave(gateway)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    gateway.clock.offset_s += DAY_S
    thief = Newcomer(gateway, 7, peer.key)
    assert "is not the one it had before" in await thief.refused()
    owner = Newcomer(gateway, 7, new)
    await owner.admitted(gateway)
    await owner.transport.stop()


async def test_the_old_key_shown_in_the_overlap_does_not_come_back(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    peer, new = Newcomer(gateway, 7), SigningKey(os.urandom(32))
    await peer.admitted(gateway)
    wire = successor(peer, new, gateway).to_wire()
    await peer.leave(gateway)
    owner = Newcomer(gateway, 7, new)
    await owner.admitted(gateway, rotations=[wire])
    await owner.leave(gateway)
    # Both keys count in the overlap, but which one is the newer does not change any more.
    thief = Newcomer(gateway, 7, peer.key)
    thief.capabilities = {"worker": {"slots": 1}}
    await thief.admitted(gateway)
    await thief.leave(gateway)
    # What greetings note goes with the next commit; the stop writes down what is left.
    await until(lambda: stored_key(gateway, peer.peer_id), lambda stored: stored == new.public_key)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    gateway.clock.offset_s += DAY_S
    assert "is not the one it had before" in await Newcomer(gateway, 7, peer.key).refused()
    owner = Newcomer(gateway, 7, new)
    await owner.admitted(gateway)
    await owner.transport.stop()


async def test_trust_is_in_the_whole_key_and_not_in_its_id(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if somebody had found another key with the same id."""
    gateway, worker = await pair(swarm)
    trusted, other = key_of(gateway).public_key, SigningKey(b"o" * 32)
    same = key_id(trusted)
    for module in ("keybook", "greeting"):
        monkeypatch.setattr(f"swarm_hub.components.signer.{module}.key_id", lambda _: same)
    channel = worker.hub.services[SIGNER]
    assert channel.trusts(trusted)
    assert not channel.trusts(other.public_key)
    stranger = Newcomer(worker, 7, other)
    stranger.capabilities = {"gateway": {}}
    await stranger.admitted(worker)
    assert shown_key(worker, stranger.peer_id) == other.public_key
    assert peer_id(gateway) != stranger.peer_id
    await stranger.transport.stop()


def test_an_id_has_128_bits() -> None:
    assert len(key_id(bytes(32))) == 32


async def test_a_hub_of_version_2_is_told_to_update(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    reason = await Newcomer(gateway, 7).refused(versions=[2])
    assert "we speak 3, the other side 2" in reason
    assert "update swarm-hub" in reason


async def shared(swarm: Swarm, url: str) -> tuple[RunningHub, RunningHub]:
    extra = f"storage: {{url: '{url}'}}\n"
    return await swarm.gateway("first", extra), await swarm.gateway("second", extra)


async def test_gateways_of_one_store_hold_a_peer_to_one_key(
    swarm: Swarm, postgres_url: str
) -> None:
    first, second = await shared(swarm, postgres_url)
    owner = Newcomer(first, 7)
    await owner.admitted(first)
    await owner.leave(first)
    stranger = SigningKey(os.urandom(32))
    assert "is not the one it had before" in await Newcomer(second, 7, stranger).refused()
    # What the peer rotated at one, the other knows as well; and where a pin was lifted.
    new = SigningKey(os.urandom(32))
    again = Newcomer(first, 7)
    rotated = successor(again, new, first).to_wire()
    renewed = Newcomer(first, 7, new)
    await renewed.admitted(first, rotations=[rotated])
    await renewed.leave(first)
    there = Newcomer(second, 7, new)
    await there.admitted(second)
    await there.leave(second)
    assert (await call(first, "POST", f"/nodes/{owner.peer_id}/unban"))[0] == 200
    replaced = Newcomer(second, 7, stranger)
    await replaced.admitted(second)
    await replaced.transport.stop()


async def test_a_lifted_pin_stays_lifted_after_a_restart(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    owner = Newcomer(gateway, 7)
    await owner.admitted(gateway)
    await owner.leave(gateway)

    async def unbanned() -> int:
        return (await call(gateway, "POST", f"/nodes/{owner.peer_id}/unban"))[0]

    # That it was here is stored a moment later.
    await until(unbanned, lambda code: code == 200)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    replaced = Newcomer(gateway, 7, SigningKey(os.urandom(32)))
    await replaced.admitted(gateway)
    await replaced.transport.stop()


async def test_only_gateways_of_a_store_can_say_its_name(swarm: Swarm, postgres_url: str) -> None:
    """A worker gives what one of them waits for to another of them."""
    first, second = await shared(swarm, postgres_url)
    other = await swarm.gateway("other")
    worker = await swarm.worker("worker", "first", "second", "other")
    names = {}
    for gateway in (first, second, other):
        await met(worker, peer_id(gateway))
        names[peer_id(gateway)] = worker.hub.services[MESH].store_of(peer_id(gateway))
    assert names[peer_id(first)] == names[peer_id(second)] != names[peer_id(other)]
    # Nobody learns from what he is told how the store is called to others.
    stores = [hub.hub.store for hub in (first, second)]
    assert {store.shown_id("a") for store in stores}.isdisjoint(
        {*(store.shown_id("b") for store in stores), *(store.db_id for store in stores)}
    )
