"""Gossipsub inside the trio thread: telemetry from whoever publishes to whoever subscribed."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

_PROTOCOLS = [TProtocol(f"/meshsub/1.{minor}.0") for minor in (2, 1, 0)]
_MAX_RPC_BYTES = 256 * 1024
_READY_TIMEOUT_S = 10.0


class Gossip:
    """Publishes and delivers; nothing that must arrive may be put on it."""

    def __init__(
        self,
        host: BasicHost,
        topics: Collection[str],
        deliver: Callable[[str, str, bytes], None],
    ) -> None:
        # libp2p 0.8.1 by default has a heartbeat of 120 s and accepts 10 messages a second per
        # topic, and its eclipse protection prunes small networks.
        self._router = GossipSub(
            _PROTOCOLS,
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            prune_back_off=5,
            max_messages_per_topic_per_second=1000,
            eclipse_protection_enabled=False,
        )
        self._pubsub = Pubsub(
            host,
            self._router,
            strict_signing=True,
            max_inbound_rpc_size=_MAX_RPC_BYTES,
            allowed_topics=frozenset(topics) or None,
        )
        self._deliver = deliver

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the router until the block ends."""
        stopping = False
        try:
            async with background_trio_service(self._pubsub), background_trio_service(self._router):
                with trio.fail_after(_READY_TIMEOUT_S):
                    await self._pubsub.wait_until_ready()
                yield
                stopping = True
        # libp2p 0.8.1 may start a task in its own closed nursery while it shuts down.
        except ExceptionGroup as group:
            if not stopping or group.split(RuntimeError)[1] is not None:
                raise

    def close(self) -> None:
        """End the sweeping thread of the library's cache, which 0.8.1 leaves behind."""
        self._pubsub.seen_messages.stop()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a payload to the peers that subscribed to the topic."""
        await self._pubsub.publish(topic, payload)

    async def subscribe(self, topic: str) -> Any:
        """Subscribe; the answer is what `deliver` reads from."""
        return await self._pubsub.subscribe(topic)

    async def deliver(self, subscription: Any, topic: str) -> None:
        """Hand over every message of a subscription until it ends."""
        while True:
            try:
                message = await subscription.get()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return
            # The signature was checked against `from_id`, so it is the true source.
            self._deliver(str(ID(message.from_id)), topic, message.data)
