"""Gossipsub inside the trio thread: telemetry from whoever publishes to whoever subscribed.

The mesh is a star: its leaves publish to the hubs they are connected to, which subscribe. So nobody
passes on what others said, and what does not come from its author is refused. Who has nothing to
publish has no streams for it: the first message opens one each way.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.score import ScoreParams, TopicScoreParams
from libp2p.tools.anyio_service import background_trio_service

from swarm_hub.components.mesh.transports.libp2p.metering import Meters
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.metering import Allowance

_LOGGER = logging.getLogger(__name__)

_PROTOCOLS = [TProtocol(f"/meshsub/1.{minor}.0") for minor in (2, 1, 0)]
_MAX_RPC_BYTES = 256 * 1024
_READY_TIMEOUT_S = 10.0
# How long a first message waits for the streams that it needs.
_MEET_TIMEOUT_S: Final = 2.0
# In this star a heartbeat only lets scores decay and old messages go. A hub that hears no gossip,
# as workers do, has little to forget.
_BEAT_S: Final = 5
_UNHEARING_BEAT_S: Final = 60
# Below this score a peer is not heard. A message beyond the rate costs 110 (and 20 are free), one
# that fails its validation 10; both halve in about 14 s. So one slip is forgiven, the second beyond
# the rate or the eleventh forgery means not being heard for about 10 s.
_GRAYLIST_SCORE: Final = -100.0
_PER_HEARTBEAT: Final = 0.95**_BEAT_S
# The library itself counts 5, which a peer at the edge would make up for within a heartbeat.
_SPAM_PENALTY: Final = 50.0


def score_params() -> ScoreParams:
    """How peers are scored; 0.8.1 by default scores nobody.

    What peers do for a mesh that relays (time in it, first deliveries) counts nothing here, nor
    do many peers behind one address, which is what a household is.
    """
    return ScoreParams(
        p4_invalid_messages=TopicScoreParams(weight=10.0, cap=100.0, decay=_PER_HEARTBEAT),
        p5_behavior_penalty_weight=2.0,
        p5_behavior_penalty_decay=_PER_HEARTBEAT,
        p5_behavior_penalty_threshold=10.0,
        publish_threshold=_GRAYLIST_SCORE,
        gossip_threshold=_GRAYLIST_SCORE,
        graylist_threshold=_GRAYLIST_SCORE,
        accept_px_threshold=0.0,
    )


class Gossip:
    """Publishes and delivers; nothing that must arrive may be put on it."""

    def __init__(
        self,
        host: BasicHost,
        topics: Collection[str],
        limits: TransportLimits,
        deliver: Callable[[str, str, bytes], None],
        flooded: Callable[[str, str], None],
    ) -> None:
        # libp2p 0.8.1 by default has a heartbeat of 120 s and accepts 10 messages a second per
        # topic; its eclipse protection prunes small networks, and its adaptive gossip slows the
        # heartbeat to 30 s when it sees few peers.
        self._router = _StarRouter(
            _PROTOCOLS,
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=_UNHEARING_BEAT_S,
            prune_back_off=5,
            score_params=score_params(),
            adaptive_gossip_enabled=False,
            max_messages_per_topic_per_second=limits.max_gossip_per_s,
            eclipse_protection_enabled=False,
        )
        self._topics = frozenset(topics)
        self._host = host
        self._pubsub = _LazyPubsub(
            host,
            self._router,
            strict_signing=True,
            max_inbound_rpc_size=_MAX_RPC_BYTES,
            allowed_topics=self._topics or None,
        )
        for topic in self._topics:
            self._pubsub.set_topic_validator(topic, _is_authors_own, False)
        # Its messages are counted by the router; their packaging is not parsed for that.
        allowance = Allowance(
            1e9, limits.max_gossip_bytes_per_s, patience_s=limits.flood_patience_s
        )
        self._meters = Meters(allowance, flooded)
        for protocol in _PROTOCOLS:
            host.set_stream_handler(protocol, self._accept)
        self._deliver = deliver
        self._graylisted: frozenset[ID] = frozenset()
        # The peers to which a stream is being opened.
        self._meeting: set[ID] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the router until the block ends."""
        stopping = False
        try:
            async with (
                background_trio_service(self._pubsub),
                background_trio_service(self._router),
                trio.open_nursery() as nursery,
            ):
                with trio.fail_after(_READY_TIMEOUT_S):
                    await self._pubsub.wait_until_ready()
                nursery.start_soon(self._tell_graylist)
                yield
                stopping = True
                nursery.cancel_scope.cancel()
        # libp2p 0.8.1 may start a task in its own closed nursery while it shuts down.
        except ExceptionGroup as group:
            if not stopping or group.split(RuntimeError)[1] is not None:
                raise

    def close(self) -> None:
        """End the sweeping thread of the library's cache, which 0.8.1 leaves behind."""
        self._pubsub.seen_messages.stop()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a payload to the peers that subscribed to the topic."""
        await self._meet_all()
        await self._pubsub.publish(topic, payload)

    async def subscribe(self, topic: str) -> Any:
        """Subscribe; the answer is what `deliver` reads from."""
        self._router.beat_every(_BEAT_S)
        subscription = await self._pubsub.subscribe(topic)
        # Those that have published before got no answer.
        for peer in self._host.get_connected_peers():
            self._pubsub.manager.run_task(self._meet, peer)
        return subscription

    async def deliver(self, subscription: Any, topic: str) -> None:
        """Hand over every message of a subscription until it ends."""
        while True:
            try:
                message = await subscription.get()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return
            # The signature was checked against `from_id`, so it is the true source.
            self._deliver(str(ID(message.from_id)), topic, message.data)

    async def _meet_all(self) -> None:
        """Have streams with all peers; the library keeps what they may want until they say so."""
        peers = self._host.get_connected_peers()
        async with trio.open_nursery() as nursery:
            for peer in peers:
                if peer not in self._pubsub.peers:
                    nursery.start_soon(self._meet, peer)

    async def _meet(self, peer: ID) -> None:
        """Open a stream to a peer, on which it is told first what is heard here."""
        if peer in self._meeting:
            return
        self._meeting.add(peer)
        try:
            await self._pubsub.ensure_peer_stream(peer, _MEET_TIMEOUT_S)
        finally:
            self._meeting.discard(peer)

    async def _accept(self, stream: INetStream) -> None:
        peer = stream.muxed_conn.peer_id
        if self._pubsub.topic_ids:
            self._pubsub.manager.run_task(self._meet, peer)
        peer_id = str(peer)
        await self._pubsub.stream_handler(self._meters.metered(stream, peer_id, _uncounted))

    async def _tell_graylist(self) -> None:
        """Log which peers are no longer heard, and which are heard again."""
        while True:
            await self._router.beaten()
            scorer, topics = self._router.scorer, list(self._topics)
            assert scorer is not None
            now = frozenset(
                peer for peer in self._pubsub.peers if scorer.is_graylisted(peer, topics)
            )
            for peer in now - self._graylisted:
                _LOGGER.warning(
                    "Hearing no gossip of %s: it sends too much, or what is not its own", peer
                )
            for peer in self._graylisted - now:
                _LOGGER.info("Hearing the gossip of %s again", peer)
            self._graylisted = now


class _LazyPubsub(Pubsub):
    """Opens no stream to a peer because it is there.

    0.8.1 opens one to each peer that connects, which costs both a quarter of a connection.
    """

    async def handle_peer_queue(self) -> None:
        """Take note of nobody who connects."""
        async with self.peer_receive_channel:
            self.event_handle_peer_queue_started.set()
            async for _peer in self.peer_receive_channel:
                continue


class _StarRouter(GossipSub):
    """Sends our own messages to their subscribers and passes on nobody else's.

    0.8.1 keeps each message from one peer for every other peer that has not subscribed: with 200
    peers that is 200 copies of each, for 30 s.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rare_beats = trio.CancelScope()
        self._beaten = trio.Event()

    def beat_every(self, interval_s: int) -> None:
        """Have the heart beat more often from now on; a wait between two rare beats ends."""
        self.heartbeat_interval = interval_s
        self._rare_beats.cancel()

    async def beaten(self) -> None:
        """Return after the next beat, by which scores have changed."""
        await self._beaten.wait()

    async def heartbeat(self) -> None:
        """Beat rarely, until `beat_every` says how often."""
        with self._rare_beats:
            await super().heartbeat()
        await super().heartbeat()

    def _prune_idontwant_entries(self) -> None:
        # The library's last step of a beat.
        super()._prune_idontwant_entries()
        self._beaten.set()
        self._beaten = trio.Event()

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Say nothing twice.

        0.8.1 sends a peer that subscribes all it said in some beats: a worker that comes back the
        telemetry of minutes, which is a flood.
        """

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Send a message of ours; count anybody else's against its sender."""
        if self.pubsub is not None and msg_forwarder != self.pubsub.my_id:
            if not self._check_spam_protection(msg_forwarder, pubsub_msg) and self.scorer:
                self.scorer.penalize_behavior(msg_forwarder, _SPAM_PENALTY)
            return
        await super().publish(msg_forwarder, pubsub_msg)


def _is_authors_own(sender: ID, message: rpc_pb2.Message) -> bool:
    """Whether a peer speaks for itself: passing on what another signed may be a replay."""
    return bool(sender.to_bytes() == message.from_id)


def _uncounted(_received: bytes) -> int:
    return 0
