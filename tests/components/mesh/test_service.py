"""Peers as a hub sees them: greeted, heard, banned, and asked for blobs."""

import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH, Mesh, PeerDown, PeerUp
from swarm_hub.components.mesh.peers.peer import Peer
from swarm_hub.exceptions import MeshError
from swarm_hub.models.event import DurableEvent
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.stranger import Stranger

BODY = random.Random(1).randbytes(700_000)
SHA = sha256_hex(BODY)


def mesh_of(hub: RunningHub) -> Mesh:
    return hub.hub.services[MESH]


async def peers(hub: RunningHub) -> set[str]:
    return set(mesh_of(hub).peers())


async def pair(swarm: Swarm) -> tuple[RunningHub, RunningHub]:
    """Start a gateway and a worker that know each other."""
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    for hub in (gateway, worker):
        await until(lambda hub=hub: peers(hub), bool)
    return gateway, worker


def serve(hub: RunningHub, body: bytes | None) -> None:
    @asynccontextmanager
    async def source(_peer_id: str, sha: str) -> AsyncIterator[bytes | None]:
        yield body if sha == SHA else None

    mesh_of(hub).serve_blobs(source)


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ({"versions": [1]}, "no common protocol version, we speak 3, the other side 1: update"),
        ({"versions": []}, "no common protocol version"),
        ({}, "no common protocol version"),
        ({"versions": [3]}, "its hello lacks"),
        ({"versions": [3], "iss": 1, "aud": 2, "key": b"", "time": 0.0, "name": "x",
          "capabilities": {}, "boot_id": "", "db_id": "", "sig": b""}, "fields of the wrong kind"),
        ({"versions": [3], "iss": "a", "aud": "b", "key": b"", "time": 0.0, "name": "x",
          "capabilities": {}, "boot_id": "", "db_id": "", "sig": b""}, "for somebody else"),
        ({"versions": [3], "iss": "a", "aud": "b", "key": b"", "time": math.nan, "name": "x",
          "capabilities": {}, "boot_id": "", "db_id": "", "sig": b""}, "fields of the wrong kind"),
    ],
)  # fmt: skip
async def test_a_hello_that_is_not_in_order_is_refused_with_a_reason(
    swarm: Swarm, hello: dict[str, Any], said: str
) -> None:
    gateway = await swarm.gateway()
    stranger = Stranger(gateway)
    await stranger.dial()
    stranger.say("hello", **hello)
    assert said in await stranger.ends()
    assert await peers(gateway) == set()
    assert not mesh_of(gateway).is_banned(stranger.transport.peer_id)
    await stranger.transport.stop()


async def test_nothing_is_heard_before_the_hello(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    serve(gateway, BODY)
    stranger = Stranger(gateway)
    await stranger.dial()
    stranger.say("need", sha=SHA)
    stranger.say("envelope", h=b"", s=b"", b=b"")
    stranger.say("heartbeat", t=1.0)
    stranger.say("hello", versions=[1])
    await stranger.ends()
    assert {kind for kind, _ in stranger.heard} <= {"hello", "bye"}
    await stranger.transport.stop()


def test_what_is_held_until_a_peer_is_admitted_may_say_more() -> None:
    session: Any = object()
    peer = Peer(session, 0.0, {session: 0.0}, session)
    known = {"sha": SHA, "offset": 0, "body": b"x", "none": None, "float": 1.5}
    assert peer.hold(("blob", {**known, "later": {"deep": [1]}, "too": [b"x" * 100]}))
    assert peer.take_early() == [("blob", known)]


async def test_a_peer_that_never_says_hello_is_let_go(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra="mesh: {transport: loopback, heartbeat: 0.05}\n")
    stranger = Stranger(gateway)
    await stranger.dial()
    gateway.clock.monotonic_offset_s += 11
    reason = await stranger.ends()
    assert "hello" in reason or "silent" in reason
    await stranger.transport.stop()


async def test_two_gateways_have_no_work_for_each_other(swarm: Swarm) -> None:
    first = await swarm.gateway("first")
    peer_id, _ = swarm.keys("first")
    second = await swarm.gateway(
        "second",
        extra=f"mesh: {{transport: loopback, bootnodes: [/memory/0/p2p/{peer_id}]}}\n",
    )
    worker = await swarm.worker("worker", "first")
    await until(lambda: peers(first), bool)
    assert await peers(first) == {mesh_of(worker).peer_id}
    assert await peers(second) == set()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("need", {}),
        ("need", {"sha": "../../etc/passwd"}),
        ("need", {"sha": 5}),
        ("blob", {}),
        ("blob", {"sha": []}),
        ("blob", {"sha": SHA, "offset": 0, "body": b"unasked"}),
        ("heartbeat", {"echo": "soon"}),
        ("heartbeat", {"t": None}),
        ("no_such_message", {"a": 1}),
    ],
)
async def test_odd_messages_of_a_peer_do_no_harm(
    swarm: Swarm, kind: str, fields: dict[str, Any]
) -> None:
    gateway, worker = await pair(swarm)
    serve(gateway, BODY)
    mesh_of(worker).send(mesh_of(gateway).peer_id, kind, fields)
    for hub in (gateway, worker):
        await until(lambda hub=hub: peers(hub), bool)
    assert await mesh_of(worker).fetch(mesh_of(gateway).peer_id, SHA, len(BODY)) == BODY


async def test_a_silent_peer_is_down_after_three_beats(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra="mesh: {transport: loopback, heartbeat: 0.1}\n")
    worker = await swarm.worker("worker")
    downs: list[PeerDown] = []
    gateway.hub.bus.listen(PeerDown, downs.append)
    await until(lambda: peers(gateway), bool)
    # The worker's session stays open, but nothing comes from it any more.
    (session,) = mesh_of(worker)._sessions
    session.send = lambda _message: None  # type: ignore[method-assign]

    async def down() -> list[PeerDown]:
        return downs

    (event,) = await until(down, bool)
    assert event.peer_id == mesh_of(worker).peer_id
    assert "silent" in event.reason


async def test_silence_is_noticed_soon_after_the_third_missed_beat(swarm: Swarm) -> None:
    """Not only at the beat after that, which with the default is up to 5 s later."""
    clock = MovableClock()
    gateway = await swarm.gateway(clock=clock)
    await swarm.worker("worker")
    await until(lambda: peers(gateway), bool)
    downs: list[PeerDown] = []
    gateway.hub.bus.listen(PeerDown, downs.append)
    clock.monotonic_offset_s += 15.1
    # Real time needs no such word: what waits then wakes by itself.
    mesh_of(gateway)._silence_nearer.set()

    async def gone() -> list[PeerDown]:
        return downs

    await until(gone, bool, timeout_s=2.5)
    assert "missed its heartbeats" in downs[0].reason


async def test_a_peer_that_beats_stays_up_and_its_round_trip_is_known(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra="mesh: {transport: loopback, heartbeat: 0.05}\n")
    worker = await swarm.worker("worker")
    await until(lambda: peers(gateway), bool)
    peer_id = mesh_of(worker).peer_id

    async def rtt() -> float | None:
        return mesh_of(gateway).rtt_s(peer_id)

    assert 0 <= await until(rtt, lambda seconds: seconds is not None) < 1
    assert mesh_of(gateway).rtt_s("nobody") is None


async def test_a_worker_finds_its_gateway_again_after_a_restart(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    ups: list[PeerUp] = []
    worker.hub.bus.listen(PeerUp, ups.append)
    for round_ in (1, 2):
        await swarm.stop(gateway)
        await until(lambda: peers(worker), lambda left: not left)
        gateway = await swarm.gateway()
        await until(lambda: peers(worker), bool)
        assert len(ups) == round_


async def test_a_banned_peer_is_refused_in_both_directions_until_it_is_unbanned(
    swarm: Swarm,
) -> None:
    gateway, worker = await pair(swarm)
    mesh, other = mesh_of(gateway), mesh_of(worker)
    told: list[str] = []
    gateway.hub.bus.listen(DurableEvent, lambda event: told.append(event.event_type.value))
    await mesh.ban(other.peer_id, "test")
    await until(lambda: peers(gateway), lambda left: not left)
    with pytest.raises(MeshError, match="banned"):
        await other._transports.dial(f"/memory/0/p2p/{mesh.peer_id}")
    with pytest.raises(MeshError, match="banned"):
        await mesh._transports.dial(f"/memory/0/p2p/{other.peer_id}")
    assert await mesh.unban(other.peer_id)
    assert not await mesh.unban(other.peer_id)
    await until(lambda: peers(gateway), bool)
    assert [kind for kind in told if "ban" in kind] == ["node_banned", "node_unbanned"]


async def test_a_ban_with_an_end_ends_by_itself(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    mesh, other = mesh_of(gateway), mesh_of(worker).peer_id
    await mesh.ban(other, "for a while", until=gateway.clock.time() + 600)
    assert mesh.is_banned(other)
    await until(lambda: peers(gateway), lambda left: not left)
    gateway.clock.offset_s += 601
    assert not mesh.is_banned(other)
