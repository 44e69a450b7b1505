"""Gossip in a star: only gateways hear it, and each peer speaks for itself."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.mesh.transports.base import Transport
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.telemetry.board import TOPIC
from tests.conftest import Swarm, until
from tests.helpers.transports import Factory, Side, run_factory


class Allowing(Factory):
    """Makes transports that allow one topic."""

    def transport(self, seed: bytes, limits: TransportLimits, *_options: Any) -> Transport:
        listen = ["/ip4/127.0.0.1/tcp/0"]
        return Libp2pTransport(seed, listen=listen, limits=limits, gossip_topics=[TOPIC])


@pytest.fixture
async def make() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        factory.__class__ = Allowing
        yield factory


def node_of(side: Side) -> Any:
    assert isinstance(side.transport, Libp2pTransport)
    return side.transport._running()[1]


async def in_trio(side: Side, work: Callable[[], Awaitable[Any]]) -> Any:
    assert isinstance(side.transport, Libp2pTransport)
    return await side.transport._running()[0].call(work)


async def star(make: Factory, points: int) -> tuple[Side, list[Side]]:
    """Return a listener, and peers that know that it listens."""
    centre = await make()
    await centre.transport.subscribe(TOPIC)
    sides = [await make() for _ in range(points)]
    for side in sides:
        await side.transport.dial(centre.address)
        await centre.until(lambda side=side: side.peer_id in centre.live())

        async def known(side: Side = side) -> bool:
            # Who hears it is told on one stream, what is said goes out on another.
            pubsub = node_of(side)._gossip._pubsub
            return bool(pubsub.peer_topics.get(TOPIC) and pubsub.peers)

        await in_trio(side, node_of(side)._gossip._meet_all)

        await until(known, bool)
    return centre, sides


def signed_by(side: Side, payload: bytes, key_of: Side | None = None) -> Any:
    """Return a message of that author, signed with its key or with that of another."""
    from libp2p.pubsub.pb import rpc_pb2
    from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

    author = node_of(side)._gossip._pubsub
    signer = node_of(key_of or side)._gossip._pubsub
    message = rpc_pb2.Message(
        data=payload,
        topicIDs=[TOPIC],
        from_id=author.my_id.to_bytes(),
        seqno=time.monotonic_ns().to_bytes(8, "big"),
    )
    content = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
    message.signature = signer.sign_key.sign(content)
    message.key = signer.host.get_public_key().serialize()
    return message


async def pass_on(side: Side, message: Any) -> None:
    """Send a message over this peer's own stream, whoever signed it."""
    from libp2p.pubsub.pb import rpc_pb2
    from libp2p.utils import encode_varint_prefixed

    async def write() -> None:
        (stream,) = node_of(side)._gossip._pubsub.peers.values()
        packed = rpc_pb2.RPC(publish=[message]).SerializeToString()
        await stream.write(encode_varint_prefixed(packed))

    await in_trio(side, write)


async def test_a_peer_speaks_for_itself_and_nobody_passes_it_on(make: Factory) -> None:
    centre, (first, second) = await star(make, 2)
    await second.transport.subscribe(TOPIC)
    await first.transport.publish(TOPIC, b"of first")
    await second.transport.publish(TOPIC, b"of second")
    await centre.until(lambda: len(centre.gossip) == 2)
    assert sorted(centre.gossip) == sorted(
        [(first.peer_id, TOPIC, b"of first"), (second.peer_id, TOPIC, b"of second")]
    )
    # What reached the centre went no further, though one of its peers would listen.
    await centre.transport.publish(TOPIC, b"of the centre")
    await second.until(lambda: (centre.peer_id, TOPIC, b"of the centre") in second.gossip)
    assert [peer for peer, _, _ in second.gossip if peer == first.peer_id] == []


async def streams(side: Side) -> int:
    """Return to how many peers a side has a stream for its gossip."""

    async def count() -> int:
        return len(node_of(side)._gossip._pubsub.peers)

    found: int = await in_trio(side, count)
    return found


async def test_who_has_nothing_to_publish_has_no_streams_and_the_first_message_arrives(
    make: Factory,
) -> None:
    centre = await make()
    await centre.transport.subscribe(TOPIC)
    silent, speaker = await make(), await make()
    for side in (silent, speaker):
        await side.transport.dial(centre.address)
        await centre.until(lambda side=side: side.peer_id in centre.live())
    assert await streams(centre) == await streams(silent) == await streams(speaker) == 0
    await speaker.transport.publish(TOPIC, b"first")
    await centre.until(lambda: centre.gossip)
    assert centre.gossip == [(speaker.peer_id, TOPIC, b"first")]
    assert await streams(centre) == await streams(speaker) == 1
    assert await streams(silent) == 0


async def test_who_subscribes_late_tells_those_that_are_connected(make: Factory) -> None:
    centre, speaker = await make(), await make()
    await speaker.transport.dial(centre.address)
    await speaker.until(lambda: centre.peer_id in speaker.live())
    await speaker.transport.publish(TOPIC, b"before")
    await centre.transport.subscribe(TOPIC)

    async def heard() -> bool:
        await speaker.transport.publish(TOPIC, b"after")
        return (speaker.peer_id, TOPIC, b"after") in centre.gossip

    await until(heard, bool)


async def test_who_comes_later_is_not_told_what_was_said_before(make: Factory) -> None:
    """A worker that came back would have sent its telemetry of minutes at once: a flood."""
    centre, (speaker,) = await star(make, 1)
    for number in range(3):
        await speaker.transport.publish(TOPIC, b"old %d" % number)
    await centre.until(lambda: len(centre.gossip) == 3)
    later = await make()
    await later.transport.subscribe(TOPIC)
    await speaker.transport.dial(later.address)
    await speaker.transport.publish(TOPIC, b"new")
    await later.until(lambda: (speaker.peer_id, TOPIC, b"new") in later.gossip)
    assert later.gossip == [(speaker.peer_id, TOPIC, b"new")]


async def test_what_another_signed_is_dropped_and_costs_its_sender_the_ear(
    make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be old: the cache of what was seen forgets after two minutes."""
    centre, (author, thief) = await star(make, 2)
    scorer = node_of(centre)._gossip._router.scorer
    # A beat of the centre's heart would forgive the thief, at any time.
    monkeypatch.setattr(scorer, "on_heartbeat", lambda *_: None)

    async def graylisted() -> set[str]:
        for number in range(12):
            await pass_on(thief, signed_by(author, b"replayed %d" % number))
        peers = node_of(centre)._gossip._pubsub.peers
        return {str(peer) for peer in peers if scorer.is_graylisted(peer, [TOPIC])}

    assert await until(graylisted, bool) == {thief.peer_id}
    await thief.transport.publish(TOPIC, b"its own, now unheard")
    await author.transport.publish(TOPIC, b"its own")
    await centre.until(lambda: centre.gossip)
    assert centre.gossip == [(author.peer_id, TOPIC, b"its own")]


async def test_what_is_signed_in_anothers_name_is_dropped(make: Factory) -> None:
    centre, (victim, forger) = await star(make, 2)
    await pass_on(forger, signed_by(victim, b"forged", key_of=forger))
    await pass_on(forger, signed_by(forger, b"honest"))
    await centre.until(lambda: centre.gossip)
    assert centre.gossip == [(forger.peer_id, TOPIC, b"honest")]


async def test_a_topic_that_is_not_allowed_is_not_subscribed_to(make: Factory) -> None:
    centre, (other,) = await star(make, 1)
    await other.transport.subscribe("swarm-hub/other")
    await other.transport.subscribe(TOPIC)

    async def subscribed() -> dict[str, set[Any]]:
        return dict(node_of(centre)._gossip._pubsub.peer_topics)

    found = await until(subscribed, lambda topics: TOPIC in topics)
    assert set(found) == {TOPIC}


async def test_peers_are_judged_and_their_rate_is_bounded(make: Factory) -> None:
    side = await make()
    router = node_of(side)._gossip._router
    assert router.scorer.params.graylist_threshold == -100
    assert router.max_messages_per_topic_per_second == TransportLimits().max_gossip_per_s
    assert node_of(side)._gossip._pubsub.strict_signing
    assert node_of(side)._gossip._pubsub.allowed_topics == {TOPIC}


async def test_only_gateways_subscribe_and_every_hub_allows_what_it_registered(
    swarm: Swarm,
) -> None:
    gateway, worker = await swarm.gateway(), await swarm.worker("worker")

    async def topics() -> list[set[str]]:
        return [hub.hub.services[MESH]._transports["loopback"]._topics for hub in (gateway, worker)]

    await until(topics, lambda found: found[0] == {TOPIC})
    assert await topics() == [{TOPIC}, set()]
