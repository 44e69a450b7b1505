"""The mesh over libp2p (TCP, Noise, yamux, gossipsub), run by trio in a thread of its own."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from swarm_hub.components.mesh.identity import (
    PeerAddress,
    expand_wildcard,
    ip_of,
    parse_dial_address,
    parse_listen_address,
    parse_networks,
    peer_id_from_seed,
    without_loopback,
)
from swarm_hub.components.mesh.transports.base import (
    CONTENT_OFF,
    Provider,
    TransportEvents,
)
from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.exceptions import HubError, MeshError
from swarm_hub.util.device import interface_ips
from swarm_hub.util.exhaustion import end_if_exhausted

if TYPE_CHECKING:
    from swarm_hub.components.mesh.transports.libp2p.content_routing import ContentRouting
    from swarm_hub.components.mesh.transports.libp2p.host import Libp2pHost
    from swarm_hub.components.mesh.transports.libp2p.session import StreamSession

_LOGGER = logging.getLogger(__name__)

# Trying more addresses of one name would only delay the error.
_MAX_RESOLVED = 4


class Libp2pSession(FramedSession):
    """The loop's side of a session; its `carrier` lives in the trio thread."""

    def __init__(
        self,
        carrier: "StreamSession",
        bridge: TrioThread,
        disconnect: Callable[[str, str], Awaitable[None]],
        requests: Requests,
        events: TransportEvents,
    ) -> None:
        super().__init__(carrier.peer_id, carrier.address, carrier.outbox, requests, events)
        self.generation = (carrier.generation.boot, carrier.generation.seq)
        self.carrier = carrier
        self._bridge = bridge
        self._disconnect = disconnect

    async def close(self, reason: str) -> None:
        """End the session and close the connections with the peer."""
        if not self.is_over:
            self.planes.drop()
            await self._disconnect(self.peer_id, reason)

    def _wake(self) -> None:
        self._bridge.post(self.carrier.wake_writer)


async def _nothing() -> None:
    """Do nothing, in the thread of libp2p."""


class Libp2pTransport:
    """A `Transport` between devices.

    `gossip_topics` are the topics that peers may subscribe to here; without any, all are.
    """

    def __init__(
        self,
        seed: bytes,
        *,
        listen: Sequence[str] = ("/ip4/0.0.0.0/tcp/4001",),
        mdns: bool = False,
        limits: TransportLimits | None = None,
        gossip_topics: Collection[str] = (),
        content: bool = False,
        requests: Requests | None = None,
    ) -> None:
        self._seed = seed
        self._peer_id = peer_id_from_seed(seed)
        self._listen = [parse_listen_address(address) for address in listen]
        self._mdns = mdns
        self._limits = limits if limits is not None else TransportLimits()
        self._gossip_topics = gossip_topics
        self.content = content
        self._events: TransportEvents | None = None
        self._bridge: TrioThread | None = None
        self._host: Libp2pHost | None = None
        self._sessions: dict[str, Libp2pSession] = {}
        self._requests = requests if requests is not None else Requests()
        self._addresses: tuple[str, ...] = ()
        self._banned: tuple[frozenset[str], tuple[str, ...]] = (frozenset(), ())

    @property
    def peer_id(self) -> str:
        """This side's peer id."""
        return self._peer_id

    # Life

    async def start(self, events: TransportEvents) -> None:
        """Start the thread and listen."""
        if self._bridge is not None:
            raise MeshError("the mesh is running already")
        self._events = events
        self._bridge = TrioThread(self._run_host, self._thread_ended)
        try:
            await self._bridge.start(self._limits.start_stall_s)
        except BaseException:
            bridge, self._bridge = self._bridge, None
            await bridge.stop(self._limits.stop_timeout_s)
            raise

    async def stop(self) -> None:
        """Disconnect every peer, then end the thread."""
        bridge = self._bridge
        if bridge is None:
            return
        if not await bridge.stop(self._limits.stop_timeout_s):
            _LOGGER.warning(
                "The mesh did not stop within %.0f s; its thread is left behind",
                self._limits.stop_timeout_s,
            )
        self._forget_sessions("the mesh has stopped")
        self._bridge = self._host = None
        self._addresses = ()

    async def sign(self) -> None:
        """Return when the thread of libp2p has made a round; raises MeshError."""
        if self._bridge is not None and self._addresses:
            await self._bridge.call(_nothing)

    def addresses(self) -> tuple[str, ...]:
        """The addresses under which others reach this transport."""
        return self._addresses

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one."""
        target = parse_dial_address(address)
        assert target.peer_id is not None
        if target.peer_id == self._peer_id:
            raise MeshError(f"{address} is this hub itself")
        if target.peer_id not in self._sessions:
            bridge, host = self._running()
            await bridge.call(host.dial, target, await self._resolve(target))
        return target.peer_id

    # Optional abilities

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip a payload."""
        bridge, host = self._running()
        await bridge.call(host.publish, topic, payload)

    async def subscribe(self, topic: str) -> None:
        """Start delivering the gossip of a topic."""
        bridge, host = self._running()
        await bridge.call(host.subscribe, topic)

    async def provide(self, sha: str) -> None:
        """Announce a blob from now on."""
        bridge, routing = self._content_routing()
        await bridge.call(routing.provide, sha)

    async def withdraw(self, sha: str) -> None:
        """Stop announcing a blob."""
        bridge, routing = self._content_routing()
        await bridge.call(routing.withdraw, sha)

    async def find_providers(self, sha: str) -> list[Provider]:
        """Ask the DHT who has a blob."""
        bridge, routing = self._content_routing()
        return await bridge.call(routing.find, sha)

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans; before the start they are kept for it."""
        networks = parse_networks(cidrs)
        banned = (frozenset(peer_ids), tuple(cidrs))
        if banned == self._banned:
            return
        self._banned = banned
        for session in self._sessions.values():
            ip = ip_of(session.address)
            if session.peer_id in banned[0] or (
                ip is not None and any(ip in network for network in networks)
            ):
                # Its stream goes in a moment, in the thread of libp2p.
                session.planes.drop()
        if self._bridge is not None and self._host is not None:
            self._bridge.post(self._host.ban, banned[0], networks)

    # The trio thread

    async def _run_host(self, bridge: TrioThread) -> None:
        # Importing libp2p takes about half a second, which the loop does not have to wait for.
        from swarm_hub.components.mesh.transports.libp2p import lean_import as libp2p_lean

        bridge.begins("importing libp2p")
        libp2p_lean.import_libp2p()
        from swarm_hub.components.mesh.transports.libp2p import host, patches

        patches.apply()
        routing = None
        if self.content:
            libp2p_lean.import_kad_dht()
            from swarm_hub.components.mesh.transports.libp2p.content_routing import ContentRouting

            routing = ContentRouting
        bridge.begins("making its host")
        made = host.Libp2pHost(
            self._seed, self._listen, self._limits, self._gossip_topics, bridge, self, routing
        )
        made.ban(self._banned[0], parse_networks(self._banned[1]))

        def ready(listening: tuple[str, ...]) -> None:
            self._host = made
            self._addresses = self._reachable(listening)
            if made.content is not None:
                told = without_loopback(self._addresses)
                bridge.start_soon(made.content.run, [parse_dial_address(each) for each in told])
            bridge.ready()
            if self._mdns:
                bridge.start_soon(made.announce, without_loopback(self._addresses))

        assert bridge.stopping is not None
        bridge.begins("beginning to listen")
        await made.run(ready, bridge.stopping)

    async def _resolve(self, address: PeerAddress) -> list[str]:
        if address.host_kind in ("ip4", "ip6"):
            return [str(ipaddress.ip_address(address.host))]
        family = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}.get(address.host_kind, 0)
        try:
            async with asyncio.timeout(self._limits.dial_timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(
                    address.host, address.port, family=family, type=socket.SOCK_STREAM
                )
        except OSError as error:
            raise MeshError(f"cannot resolve {address.host}: {error}") from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:_MAX_RESOLVED]

    def _reachable(self, listening: Sequence[str]) -> tuple[str, ...]:
        """The addresses to give to others, with this device's IPs in place of 0.0.0.0."""
        ips = interface_ips()
        found: dict[str, None] = {}
        for text in listening:
            address = parse_listen_address(text.partition("/p2p/")[0])
            for one in expand_wildcard(address, ips):
                found[f"{one.location}/p2p/{self._peer_id}"] = None
        return tuple(found)

    # Called by the host, on the loop

    def session_live(self, session: "StreamSession") -> None:
        """A session is live."""
        if self._events is None or self._bridge is None:
            return
        made = Libp2pSession(session, self._bridge, self._disconnect, self._requests, self._events)
        self._sessions[session.peer_id] = made
        self._events.peer_up(made)

    def session_ended(self, session: "StreamSession", reason: str) -> None:
        """A session has ended."""
        if (found := self._of(session)) is not None:
            self._end(found, reason)

    def messages_received(
        self, session: "StreamSession", messages: Sequence[Message], size: int
    ) -> None:
        """A burst of messages."""
        session.unread.taken_bytes += size
        found = self._sessions.get(session.peer_id)
        if found is not None and found.carrier is session:
            found.received(messages, size)

    def room_freed(self, session: "StreamSession") -> None:
        """A frame was sent, and somebody may be waiting to send bulk."""
        if (found := self._of(session)) is not None:
            found.room_freed()

    def gossip_received(self, peer_id: str, topic: str, payload: bytes) -> None:
        """A gossip message."""
        if self._host is not None:
            self._host.gossip_unread.taken_bytes += len(payload)
        if self._events is not None:
            self._events.gossiped(peer_id, topic, payload)

    def peer_discovered(self, peer_id: str, addresses: tuple[str, ...]) -> None:
        """A peer was seen on the local network."""
        if self._events is not None:
            self._events.discovered(peer_id, addresses)

    def peer_flooded(self, peer_id: str, reason: str) -> None:
        """A peer kept sending more than it may, and is being disconnected."""
        if self._events is not None:
            self._events.flooded(peer_id, reason)

    def _thread_ended(self, error: BaseException | None) -> None:
        self._forget_sessions("the mesh has stopped" if error is None else "the mesh failed")
        if error is None:
            return
        end_if_exhausted(error)
        if not isinstance(error, HubError):
            _LOGGER.error("The thread of libp2p died", exc_info=error)
        if self._events is not None:
            self._events.failed(str(error) if isinstance(error, HubError) else repr(error))

    def _forget_sessions(self, reason: str) -> None:
        for session in tuple(self._sessions.values()):
            self._end(session, reason)

    def _end(self, session: Libp2pSession, reason: str) -> None:
        del self._sessions[session.peer_id]
        session.over(reason)
        if self._events is not None:
            self._events.peer_down(session, reason)

    def _of(self, session: "StreamSession") -> Libp2pSession | None:
        found = self._sessions.get(session.peer_id)
        return found if found is not None and found.carrier is session else None

    async def _disconnect(self, peer_id: str, reason: str) -> None:
        bridge, host = self._running()
        await bridge.call(host.disconnect, peer_id, reason)

    def _content_routing(self) -> tuple[TrioThread, "ContentRouting"]:
        bridge, host = self._running()
        if host.content is None:
            raise MeshError(CONTENT_OFF)
        return bridge, host.content

    def _running(self) -> tuple[TrioThread, "Libp2pHost"]:
        if self._bridge is None or self._host is None:
            raise MeshError("the mesh is not running")
        return self._bridge, self._host
