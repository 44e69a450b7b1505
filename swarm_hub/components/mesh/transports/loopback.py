"""The mesh inside one process: the same frames, bounds and errors, without a network."""

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swarm_hub.components.mesh.identity import is_peer_id, parse_networks
from swarm_hub.components.mesh.transports.base import (
    CONTENT_OFF,
    PROVIDERS_MAX,
    PeerGone,
    Provider,
    TransportEvents,
)
from swarm_hub.components.mesh.wire.framing import FrameDecoder, FrameError
from swarm_hub.components.mesh.wire.inbound import take_own
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import REQUEST_TIMEOUT_S, Requests
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


@dataclass(slots=True, eq=False)
class _Link:
    """One side's half of a session: what it sends, and where that arrives."""

    peer: "LoopbackTransport"
    outbox: SendQueue
    decoder: FrameDecoder
    room: asyncio.Event = field(default_factory=asyncio.Event)
    pumping: bool = False


class LoopbackTransport:
    """A `Transport` between hubs of one process; a hub may be its own peer."""

    def __init__(
        self,
        peer_id: str,
        network: LoopbackNetwork | None = None,
        *,
        limits: TransportLimits | None = None,
        content: bool = False,
    ) -> None:
        self._peer_id = peer_id
        self._network = network if network is not None else _DEFAULT_NETWORK
        self._limits = limits if limits is not None else TransportLimits()
        self._events: TransportEvents | None = None
        self._links: dict[str, _Link] = {}
        self._requests = Requests(self.send)
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
        """Disconnect every peer and be unreachable."""
        for peer_id in list(self._links):
            await self.disconnect(peer_id, "the hub is stopping")
        if self._network.transports.get(self._peer_id) is self:
            del self._network.transports[self._peer_id]
            for sha in tuple(self._network.providers):
                self._forget_provider(sha)
        # Events that are under way are still delivered.
        await asyncio.sleep(0)
        self._events = None
        self._topics.clear()

    def addresses(self) -> tuple[str, ...]:
        """The one address of this transport, while it is started."""
        return (f"{_PREFIX}{self._peer_id}",) if self._events is not None else ()

    def peers(self) -> dict[str, str]:
        """The peers with a live session."""
        return {peer_id: f"{_PREFIX}{peer_id}" for peer_id in self._links}

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one; its own address connects it to itself."""
        peer_id = address.removeprefix(_PREFIX)
        if peer_id == address or not is_peer_id(peer_id):
            raise MeshError(f"address {address[:100]!r} is not understood: expected {_PREFIX}<id>")
        self._require_started()
        if peer_id in self._links:
            return peer_id
        if peer_id in self._banned:
            raise MeshError(f"peer {peer_id} is banned")
        peer = self._network.transports.get(peer_id)
        if peer is None:
            raise MeshError(f"cannot dial {address}: nobody listens there")
        if self._peer_id in peer._banned:
            raise MeshError(f"cannot dial {address}: the peer is banned there")
        self._link(peer)
        if peer is not self:
            peer._link(self)
        return peer_id

    def send(self, peer_id: str, message: bytes) -> None:
        """Queue a control message."""
        link = self._live(peer_id)
        link.outbox.put_control(message)
        self._schedule(link)

    async def request(
        self,
        peer_id: str,
        kind: str,
        fields: Mapping[str, Any],
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Mapping[str, Any]:
        """Ask and wait for the reply."""
        return await self._requests.request(peer_id, kind, fields, timeout_s)

    async def send_bulk(self, peer_id: str, message: bytes) -> None:
        """Queue a bulk message as soon as there is room."""
        link = self._live(peer_id)
        while not link.outbox.try_put_bulk(message):
            link.room.clear()
            await link.room.wait()
            if self._links.get(peer_id) is not link:
                raise PeerGone(f"peer {peer_id} is gone")
        self._schedule(link)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip to the connected peers that subscribed."""
        self._require_started()
        loop = asyncio.get_running_loop()
        for link in self._links.values():
            if topic in link.peer._topics:
                loop.call_soon(link.peer._gossip, self._peer_id, topic, payload)

    async def subscribe(self, topic: str) -> None:
        """Have the gossip of a topic delivered."""
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
        """Look into the network's table."""
        self._require_content()
        others = [each for each in self._network.providers.get(sha, {}) if each != self._peer_id]
        return [Provider(each, (f"{_PREFIX}{each}",)) for each in others[:PROVIDERS_MAX]]

    async def disconnect(self, peer_id: str, reason: str) -> None:
        """End the session; control messages that wait arrive first, as on the wire."""
        link = self._links.get(peer_id)
        if link is None:
            return
        link.outbox.discard_bulk()
        self._flush(link)
        self._end(peer_id, reason)
        if link.peer is not self:
            link.peer._end(self._peer_id, f"the peer said: {reason}")

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans and drop the sessions they hit; there are no networks here."""
        parse_networks(cidrs)
        self._banned = frozenset(peer_ids)
        for peer_id in self._banned.intersection(self._links):
            link = self._links[peer_id]
            self._end(peer_id, "the peer is banned")
            link.peer._end(self._peer_id, "the peer said: the peer is banned")

    def _link(self, peer: "LoopbackTransport") -> None:
        self._links[peer._peer_id] = _Link(
            peer,
            SendQueue(peer._peer_id, self._limits),
            FrameDecoder(peer._limits.max_frame_bytes),
        )
        if self._events is not None:
            address = f"{_PREFIX}{peer._peer_id}"
            _soon(self._events.peer_up, peer._peer_id, address)

    def _schedule(self, link: _Link) -> None:
        if not link.pumping:
            link.pumping = True
            asyncio.get_running_loop().call_soon(self._pump, link)

    def _pump(self, link: _Link) -> None:
        """Send one frame a turn of the loop, so that control messages overtake bulk ones."""
        link.pumping = False
        if self._links.get(link.peer._peer_id) is not link:
            return
        frame = link.outbox.next_frame()
        if frame is None:
            return
        link.room.set()
        link.peer._arrived(self, frame, link.decoder)
        if link.outbox.queued_bytes:
            self._schedule(link)

    def _flush(self, link: _Link) -> None:
        while (frame := link.outbox.next_frame()) is not None:
            asyncio.get_running_loop().call_soon(link.peer._arrived, self, frame, link.decoder)

    def _arrived(self, sender: "LoopbackTransport", frame: bytes, decoder: FrameDecoder) -> None:
        try:
            messages: Sequence[Message] = decoder.feed(frame)
        except FrameError as error:
            self._end(sender._peer_id, f"the peer sent {error}")
            sender._end(self._peer_id, "the connection was lost")
            return
        # This side's half of the session; what was sent before its end still arrives after it.
        link = self._links.get(sender._peer_id)
        if link is not None:
            wake = functools.partial(self._schedule, link)
            messages = take_own(link.outbox, self._requests, messages, len(frame), wake)
        if messages and self._events is not None:
            self._events.received(sender._peer_id, messages)

    def _gossip(self, source: str, topic: str, payload: bytes) -> None:
        if self._events is not None:
            self._events.gossiped(source, topic, payload)

    def _end(self, peer_id: str, reason: str) -> None:
        link = self._links.pop(peer_id, None)
        if link is None:
            return
        link.room.set()
        self._requests.peer_down(peer_id, reason)
        if self._events is not None:
            _soon(self._events.peer_down, peer_id, reason)

    def _live(self, peer_id: str) -> _Link:
        link = self._links.get(peer_id)
        if link is None:
            raise PeerGone(f"peer {peer_id} is not connected")
        return link

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


def _soon(event: Callable[[str, str], None], peer_id: str, detail: str) -> None:
    asyncio.get_running_loop().call_soon(event, peer_id, detail)
