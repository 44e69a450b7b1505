"""The mesh inside one process: the same frames, bounds and errors, without a network."""

import asyncio
from collections.abc import Collection

from swarm_hub.components.mesh.identity import is_peer_id, parse_networks
from swarm_hub.components.mesh.transports.base import (
    CONTENT_OFF,
    PROVIDERS_MAX,
    Provider,
    TransportEvents,
    TransportOptions,
)
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.framing import FrameDecoder, FrameError
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.components.mesh.wire.send_queue import SendQueue
from swarm_hub.exceptions import MeshError

_PREFIX = "/memory/0/p2p/"


class LoopbackNetwork:
    """Who can reach whom; transports with the same network are in the same process."""

    def __init__(self) -> None:
        self.transports: dict[str, LoopbackTransport] = {}
        # hash of a blob → the peers that provide it
        self.providers: dict[str, dict[str, None]] = {}


_DEFAULT_NETWORK = LoopbackNetwork()


def make(options: TransportOptions) -> "LoopbackTransport":
    """Return the transport of a hub to itself and to others in its process."""
    return LoopbackTransport(options.peer_id, limits=options.limits, requests=options.requests)


class LoopbackSession(FramedSession):
    """One side's half of a session: what it sends arrives at the `other` half."""

    other: "LoopbackSession"

    def __init__(
        self,
        owner: "LoopbackTransport",
        peer_id: str,
        events: TransportEvents,
        limits: TransportLimits,
        requests: Requests,
    ) -> None:
        outbox = SendQueue(peer_id, limits)
        super().__init__(peer_id, f"{_PREFIX}{peer_id}", outbox, requests, events)
        self._owner = owner
        self._decoder = FrameDecoder(limits.max_frame_bytes)
        self._pumping = False

    async def close(self, reason: str) -> None:
        """End the session; control messages that wait arrive first, as on the wire."""
        if self.is_over:
            return
        self.outbox.discard_bulk()
        self._flush()
        self.end(reason, f"the peer said: {reason}")

    def end(self, reason: str, told: str) -> None:
        """End both halves at once; the other one is told `told` as the reason."""
        self._end(reason)
        self.other._end(told)

    def _wake(self) -> None:
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Send one frame per turn of the loop, so that control messages overtake bulk ones."""
        self._pumping = False
        if self.is_over:
            return
        frame = self.outbox.next_frame()
        if frame is None:
            return
        self.room_freed()
        self.other._arrived(frame)
        if self.outbox.queued_bytes:
            self._wake()

    def _flush(self) -> None:
        while (frame := self.outbox.next_frame()) is not None:
            asyncio.get_running_loop().call_soon(self.other._arrived, frame)

    def _arrived(self, frame: bytes) -> None:
        try:
            messages = self._decoder.feed(frame)
        except FrameError as error:
            self.end(f"the peer sent {error}", "the connection was lost")
            return
        self.received(messages, len(frame))

    def _end(self, reason: str) -> None:
        if self.is_over:
            return
        self.over(reason)
        self._owner.sessions.pop(self.peer_id, None)
        asyncio.get_running_loop().call_soon(self._events.peer_down, self, reason)


class LoopbackTransport:
    """A `Transport` between hubs of one process; a hub may be its own peer."""

    def __init__(
        self,
        peer_id: str,
        network: LoopbackNetwork | None = None,
        *,
        limits: TransportLimits | None = None,
        content: bool = False,
        requests: Requests | None = None,
    ) -> None:
        self._peer_id = peer_id
        self._network = network if network is not None else _DEFAULT_NETWORK
        self._limits = limits if limits is not None else TransportLimits()
        self._events: TransportEvents | None = None
        self.sessions: dict[str, LoopbackSession] = {}
        self._requests = requests if requests is not None else Requests()
        self._topics: set[str] = set()
        self._banned: frozenset[str] = frozenset()
        self.content = content

    @property
    def peer_id(self) -> str:
        """This side's peer id."""
        return self._peer_id

    async def start(self, events: TransportEvents) -> None:
        """Become reachable; a second transport with the same peer id is refused."""
        if self._peer_id in self._network.transports:
            raise MeshError(f"cannot listen on {_PREFIX}{self._peer_id}: the peer id is in use")
        self._events = events
        self._network.transports[self._peer_id] = self

    async def stop(self) -> None:
        """Disconnect every peer and become unreachable."""
        for session in tuple(self.sessions.values()):
            await session.close("the hub is stopping")
        if self._network.transports.get(self._peer_id) is self:
            del self._network.transports[self._peer_id]
            for sha in tuple(self._network.providers):
                self._forget_provider(sha)
        # Events already under way are still delivered.
        await asyncio.sleep(0)
        self._events = None
        self._topics.clear()

    def addresses(self) -> tuple[str, ...]:
        """The one address of this transport, while it is started."""
        return (f"{_PREFIX}{self._peer_id}",) if self._events is not None else ()

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one; its own address connects it to itself."""
        peer_id = address.removeprefix(_PREFIX)
        if peer_id == address or not is_peer_id(peer_id):
            raise MeshError(f"address {address[:100]!r} is not understood: expected {_PREFIX}<id>")
        self._require_started()
        if peer_id in self.sessions:
            return peer_id
        if peer_id in self._banned:
            raise MeshError(f"peer {peer_id} is banned")
        peer = self._network.transports.get(peer_id)
        if peer is None:
            raise MeshError(f"cannot dial {address}: nobody listens there")
        if self._peer_id in peer._banned:
            raise MeshError(f"cannot dial {address}: the peer is banned there")
        ours = self._opened(peer_id)
        theirs = ours if peer is self else peer._opened(self._peer_id)
        ours.other, theirs.other = theirs, ours
        # Both sides know of the session when this returns.
        await asyncio.sleep(0)
        return peer_id

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip to the connected peers that subscribed."""
        self._require_started()
        loop = asyncio.get_running_loop()
        for session in self.sessions.values():
            peer = session.other._owner
            if topic in peer._topics:
                loop.call_soon(peer._gossip, self._peer_id, topic, payload)

    async def subscribe(self, topic: str) -> None:
        """Start delivering the gossip of a topic."""
        self._require_started()
        self._topics.add(topic)

    async def provide(self, sha: str) -> None:
        """Put a blob into the network's table."""
        self._require_content()
        self._network.providers.setdefault(sha, {})[self._peer_id] = None

    async def withdraw(self, sha: str) -> None:
        """Take a blob out of the network's table."""
        self._require_content()
        self._forget_provider(sha)

    async def find_providers(self, sha: str) -> list[Provider]:
        """Look the blob up in the network's table."""
        self._require_content()
        others = [each for each in self._network.providers.get(sha, {}) if each != self._peer_id]
        return [Provider(each, (f"{_PREFIX}{each}",)) for each in others[:PROVIDERS_MAX]]

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans and drop the sessions they hit; there are no networks here."""
        parse_networks(cidrs)
        self._banned = frozenset(peer_ids)
        for peer_id in self._banned.intersection(self.sessions):
            reason = "the peer is banned"
            self.sessions[peer_id].end(reason, f"the peer said: {reason}")

    def _opened(self, peer_id: str) -> LoopbackSession:
        assert self._events is not None
        made = LoopbackSession(self, peer_id, self._events, self._limits, self._requests)
        self.sessions[peer_id] = made
        asyncio.get_running_loop().call_soon(self._events.peer_up, made)
        return made

    def _gossip(self, source: str, topic: str, payload: bytes) -> None:
        if self._events is not None:
            self._events.gossiped(source, topic, payload)

    def _forget_provider(self, sha: str) -> None:
        providers = self._network.providers.get(sha, {})
        providers.pop(self._peer_id, None)
        if not providers:
            self._network.providers.pop(sha, None)

    def _require_content(self) -> None:
        self._require_started()
        if not self.content:
            raise MeshError(CONTENT_OFF)

    def _require_started(self) -> None:
        if self._events is None:
            raise MeshError("the mesh is not running")
