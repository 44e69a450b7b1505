"""What becomes of a peer that floods again and again, or sends only what is wrong."""

from typing import Any

import pytest

from swarm_hub.components.mesh import MESH, encode_message, join_messages
from swarm_hub.components.mesh.peers.floods import BANNED_FOR_S
from swarm_hub.components.signer import SIGNER
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call
from tests.helpers.stranger import Stranger

REASON = "flooding: more than 40000 messages or 200 MB a second for 10 s"


async def reason_of_ban(hub: RunningHub, peer_id: str) -> str | None:
    ban = hub.hub.services[MESH].bans.of(peer_id)
    return None if ban is None else ban.reason


async def listed(hub: RunningHub) -> list[dict[str, Any]]:
    _, body = await call(hub, "GET", "/nodes")
    return list(body["nodes"])


async def test_the_third_flood_within_ten_minutes_bans_for_a_while(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    mesh = gateway.hub.services[MESH]
    mesh.flooded("flooder", REASON)
    mesh.flooded("flooder", REASON)
    mesh.flooded("another", REASON)
    assert await reason_of_ban(gateway, "flooder") is None
    mesh.flooded("flooder", REASON)
    assert await until(lambda: reason_of_ban(gateway, "flooder"), bool) == REASON
    assert await reason_of_ban(gateway, "another") is None
    # It holds at once, and is listed when it is stored.
    (node,) = await until(lambda: listed(gateway), bool)
    assert (node["state"], node["ban_reason"]) == ("banned", REASON)
    assert node["ban_until"] is not None
    gateway.clock.offset_s += BANNED_FOR_S + 1
    assert not mesh.is_banned("flooder")


async def test_floods_that_are_far_apart_do_not_ban(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for _ in range(6):
        gateway.hub.services[MESH].flooded("flooder", REASON)
        gateway.clock.monotonic_offset_s += 301
    assert await reason_of_ban(gateway, "flooder") is None


async def test_a_stranger_that_says_anything_but_hello_is_let_go(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway()
    stranger = Stranger(gateway)
    await stranger.dial()
    for _ in range(300):
        stranger.say("heartbeat", t=1.0)
    assert "200 wrong messages" in await stranger.ends()
    told = [line for line in caplog.messages if "sent heartbeat before it was" in line]
    assert len(told) == 5, "the log is not filled by one peer"
    await stranger.transport.stop()


async def test_a_peer_that_goes_on_sending_what_is_wrong_is_banned(swarm: Swarm) -> None:
    """Bodies of envelopes that can't be read, from a worker whose signatures are right."""
    gateway, worker = await swarm.gateway(), await swarm.worker("worker")
    mesh, theirs = gateway.hub.services[MESH], worker.hub.services[MESH]
    channel, peer_id = worker.hub.services[SIGNER], theirs.peer_id

    async def up() -> bool:
        return mesh.peer_id in theirs.peers()

    async def down() -> bool:
        return mesh.peer_id not in theirs.peers()

    for _ in range(3):
        await until(up, bool)
        for number in range(220):
            # Whole messages in which nothing fits, and bytes that are no messages at all.
            body = b"\xff" if number % 2 else join_messages([encode_message("ack", {"ids": 1})])
            channel._post(mesh.peer_id, channel._sealed(mesh.peer_id, body))
        await until(down, bool)
    reason = await until(lambda: reason_of_ban(gateway, peer_id), bool)
    assert "200 wrong messages" in str(reason)


async def test_envelopes_beyond_the_rate_are_not_looked_at_and_end_the_session(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of the real rate, which a busy machine may not reach.
    monkeypatch.setattr("swarm_hub.components.mesh.peers.floods._ENVELOPES_PER_S", 200.0)
    gateway, worker = await swarm.gateway(), await swarm.worker("worker")
    mine, theirs = gateway.hub.services[MESH], worker.hub.services[MESH]

    async def peers() -> set[str]:
        return set(mine.peers())

    await until(peers, bool)
    for _ in range(6000):
        theirs.send(mine.peer_id, "envelope", {"h": b"", "s": b"", "b": b""})

    async def strikes() -> int:
        return len(mine._floods._strikes.get(theirs.peer_id, ()))

    assert await until(strikes, bool) == 1
    # Most were refused for their shape, and what came beyond the rate not even that.
    assert gateway.hub.services[SIGNER].refused["malformed"] < 5000
