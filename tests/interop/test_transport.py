"""js-libp2p and our transport: connections, identify, ping and gossip, each way."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from tests.conftest import until
from tests.helpers.transports import Side
from tests.interop.javascript import JsPeer, StartJs

TOPIC = "swarm-hub/telemetry"
MESSAGES = [bytes([number]) * 20 for number in range(5)]


@pytest.fixture
async def ours() -> AsyncIterator[Side]:
    """Return our transport, listening."""
    side = Side(Libp2pTransport(os.urandom(32), listen=["/ip4/127.0.0.1/tcp/0"]))
    await side.transport.start(side)
    yield side
    await side.transport.stop()


async def live(js: JsPeer, side: Side) -> dict[str, Any]:
    return await until(lambda: js.state(side.peer_id), lambda state: state["live"])


def seed_of_one(smaller: bool, than: str) -> bytes:
    """Return a seed whose peer id is smaller or larger as text."""
    while True:
        seed = os.urandom(32)
        if (peer_id_from_seed(seed) < than) == smaller:
            return seed


@pytest.mark.parametrize("arbiter", [True, False], ids=["as the arbiter", "as the follower"])
async def test_it_dials_us(ours: Side, start_js: StartJs, arbiter: bool) -> None:
    js = await start_js(seed=seed_of_one(arbiter, ours.peer_id))
    assert await js.do("dial", address=ours.address) == {"live": True}
    await ours.until(lambda: js.id in ours.live(), "the session")
    state = await live(js, ours)
    assert state["arbiter"] == arbiter
    # Its first message is its hello.
    await ours.until(lambda: ours.messages("hello"), "a hello")


@pytest.mark.parametrize("arbiter", [True, False], ids=["as the arbiter", "as the follower"])
async def test_it_is_dialled_by_us(ours: Side, start_js: StartJs, arbiter: bool) -> None:
    js = await start_js(seed=seed_of_one(arbiter, ours.peer_id))
    assert await ours.transport.dial(js.address) == js.id
    assert (await live(js, ours))["arbiter"] == arbiter
    await ours.until(lambda: ours.messages("hello"), "a hello")


async def test_both_dialling_at_once_ends_with_one_session(ours: Side, start_js: StartJs) -> None:
    js = await start_js()
    await asyncio.gather(
        js.do("dial", address=ours.address), ours.transport.dial(js.address), return_exceptions=True
    )
    await ours.until(lambda: js.id in ours.live(), "the session")
    await live(js, ours)
    ours.bursts.clear()
    await js.do("say", peer_id=ours.peer_id, kind="note", fields={"n": 1})
    await ours.until(lambda: ours.messages("note"), "a message over the session")


async def test_it_identifies_us(ours: Side, start_js: StartJs) -> None:
    js = await start_js()
    await js.do("dial", address=ours.address)
    found = await js.do("identify", peer_id=ours.peer_id)
    assert found["id"] == ours.peer_id
    protocols = {"/swarm-hub/3", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.2.0"}
    assert protocols <= set(found["protocols"])


async def test_it_pings_us(ours: Side, start_js: StartJs) -> None:
    js = await start_js()
    answer = await js.do("ping", address=ours.address)
    assert 0 <= answer["ms"] < 10_000


async def test_we_ping_it(ours: Side, start_js: StartJs) -> None:
    """No code of ours does this: heartbeats tell the same. The library under it can."""
    from libp2p.host.ping import PingService
    from libp2p.peer.id import ID

    js = await start_js()
    await ours.transport.dial(js.address)
    assert isinstance(ours.transport, Libp2pTransport)
    bridge, node = ours.transport._running()
    service = PingService(node._host)
    times = await bridge.call(service.ping, ID.from_string(js.id), 3)
    assert len(times) == 3


async def test_its_signed_gossip_reaches_us(ours: Side, start_js: StartJs) -> None:
    js = await start_js()
    await ours.transport.subscribe(TOPIC)
    await js.do("dial", address=ours.address)
    await until(lambda: js.do("subscribers", topic=TOPIC), lambda ids: ours.peer_id in ids)
    for message in MESSAGES:
        await js.do("publish", topic=TOPIC, data=message.hex())
    await ours.until(lambda: len(ours.gossip) >= len(MESSAGES), "all gossip")
    assert sorted(ours.gossip) == [(js.id, TOPIC, message) for message in MESSAGES]


async def test_our_signed_gossip_reaches_it(ours: Side, start_js: StartJs) -> None:
    js = await start_js()
    await js.do("subscribe", topic=TOPIC)
    await js.do("dial", address=ours.address)
    # It says to whom it subscribes when the connection is there; we have no sign of that.
    received: set[str] = set()

    async def gossip() -> set[str]:
        await ours.transport.publish(TOPIC, b"are you there")
        state = await js.state(ours.peer_id)
        return {each["data"] for each in state["gossip"]}

    await until(gossip, bool)
    for message in MESSAGES:
        await ours.transport.publish(TOPIC, message)

    async def heard() -> set[str]:
        state = await js.state(ours.peer_id)
        assert {each["from"] for each in state["gossip"]} == {ours.peer_id}
        return {each["data"] for each in state["gossip"]}

    received = await until(heard, lambda found: {each.hex() for each in MESSAGES} <= found)
    assert received == {b"are you there".hex(), *(each.hex() for each in MESSAGES)}
