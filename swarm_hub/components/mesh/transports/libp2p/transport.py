"""The mesh over libp2p (TCP, Noise, yamux, gossipsub), run by trio in a thread of its own."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from swarm_hub.components.mesh.identity import (
    PeerAddress,
    expand_wildcard,
    parse_dial_address,
    parse_listen_address,
    parse_networks,
    peer_id_from_seed,
    without_loopback,
)
from swarm_hub.components.mesh.transports.base import (
    CONTENT_OFF,
    PeerGone,
    Provider,
    TransportEvents,
)
from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread
from swarm_hub.components.mesh.wire.inbound import take_own
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import REQUEST_TIMEOUT_S, Requests
from swarm_hub.exceptions import MeshError

if TYPE_CHECKING:
    from swarm_hub.components.mesh.transports.libp2p.content_routing import ContentRouting
    from swarm_hub.components.mesh.transports.libp2p.host import Libp2pHost
    from swarm_hub.components.mesh.transports.libp2p.session import Session

_LOGGER = logging.getLogger(__name__)

# More addresses of one name would only delay the error.
_MAX_RESOLVED = 4


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
        self._sessions: dict[str, Session] = {}
        self._requests = Requests(self.send)
        self._bulk_room: dict[str, asyncio.Event] = {}
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
            await self._bridge.start(self._limits.start_timeout_s)
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

    def addresses(self) -> tuple[str, ...]:
        """The addresses under which others reach this transport."""
        return self._addresses

    def peers(self) -> dict[str, str]:
        """The peers with a live session."""
        return {peer_id: session.address for peer_id, session in self._sessions.items()}

    # Sending

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

    def send(self, peer_id: str, message: bytes) -> None:
        """Queue a control message."""
        session = self._session(peer_id)
        session.outbox.put_control(message)
        self._running()[0].post(session.wake_writer)

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
        session = self._session(peer_id)
        while not session.outbox.try_put_bulk(message):
            room = self._bulk_room.setdefault(peer_id, asyncio.Event())
            room.clear()
            session.outbox.bulk_wanted = True
            # Room may have come up before it was asked for.
            if not session.outbox.has_bulk_room(message):
                await room.wait()
            if self._sessions.get(peer_id) is not session:
                raise PeerGone(f"peer {peer_id} is gone")
        self._running()[0].post(session.wake_writer)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip a payload."""
        bridge, host = self._running()
        await bridge.call(host.publish, topic, payload)

    async def subscribe(self, topic: str) -> None:
        """Have the gossip of a topic delivered."""
        bridge, host = self._running()
        await bridge.call(host.subscribe, topic)

    async def provide(self, sha: str) -> None:
        """Announce a blob from now on."""
        bridge, routing = self._content_routing()
        await bridge.call(routing.provide, sha)

    async def withdraw(self, sha: str) -> None:
        """Announce a blob no more."""
        bridge, routing = self._content_routing()
        await bridge.call(routing.withdraw, sha)

    async def find_providers(self, sha: str) -> list[Provider]:
        """Ask the DHT who has a blob."""
        bridge, routing = self._content_routing()
        return await bridge.call(routing.find, sha)

    async def disconnect(self, peer_id: str, reason: str) -> None:
        """End the session with a peer and close its connections."""
        bridge, host = self._running()
        await bridge.call(host.disconnect, peer_id, reason)

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans; before the start they are kept for it."""
        networks = parse_networks(cidrs)
        banned = (frozenset(peer_ids), tuple(cidrs))
        if banned == self._banned:
            return
        self._banned = banned
        if self._bridge is not None and self._host is not None:
            self._bridge.post(self._host.ban, banned[0], networks)

    # The trio thread

    async def _run_host(self, bridge: TrioThread) -> None:
        # Importing libp2p takes about half a second, which the loop does not have to wait for.
        from swarm_hub.components.mesh.transports.libp2p import lean_import as libp2p_lean

        libp2p_lean.import_libp2p()
        from swarm_hub.components.mesh.transports.libp2p import host
        from swarm_hub.components.mesh.transports.libp2p import patches as libp2p_patches

        libp2p_patches.apply()
        routing = None
        if self.content:
            libp2p_lean.import_kad_dht()
            from swarm_hub.components.mesh.transports.libp2p.content_routing import ContentRouting

            routing = ContentRouting
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
        ips = _interface_ips()
        found: dict[str, None] = {}
        for text in listening:
            address = parse_listen_address(text.partition("/p2p/")[0])
            for one in expand_wildcard(address, ips):
                found[f"{one.location}/p2p/{self._peer_id}"] = None
        return tuple(found)

    # Called by the host, on the loop

    def session_live(self, session: "Session") -> None:
        """A session is live."""
        self._sessions[session.peer_id] = session
        if self._events is not None:
            self._events.peer_up(session.peer_id, session.address)

    def session_ended(self, session: "Session", reason: str) -> None:
        """A session has ended."""
        if self._sessions.get(session.peer_id) is not session:
            return
        del self._sessions[session.peer_id]
        if (room := self._bulk_room.pop(session.peer_id, None)) is not None:
            room.set()
        self._requests.peer_down(session.peer_id, reason)
        if self._events is not None:
            self._events.peer_down(session.peer_id, reason)

    def messages_received(self, session: "Session", messages: Sequence[Message], size: int) -> None:
        """A burst of messages."""
        session.unread.taken_bytes += size
        if self._sessions.get(session.peer_id) is not session or self._events is None:
            return

        def wake() -> None:
            if self._bridge is not None:
                self._bridge.post(session.wake_writer)

        others = take_own(session.outbox, self._requests, messages, size, wake)
        if others:
            self._events.received(session.peer_id, others)

    def room_freed(self, session: "Session") -> None:
        """A frame was sent and somebody may wait to send bulk."""
        session.outbox.bulk_wanted = False
        if (room := self._bulk_room.pop(session.peer_id, None)) is not None:
            room.set()

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
        """A peer went on sending more than it may, and is being let go."""
        if self._events is not None:
            self._events.flooded(peer_id, reason)

    def _thread_ended(self, error: BaseException | None) -> None:
        reason = f"the mesh failed: {error!r}" if error is not None else "the mesh has stopped"
        self._forget_sessions(reason)
        if error is not None:
            _LOGGER.error("The mesh failed", exc_info=error)
            if self._events is not None:
                self._events.failed(reason)

    def _forget_sessions(self, reason: str) -> None:
        for session in list(self._sessions.values()):
            self.session_ended(session, reason)

    def _session(self, peer_id: str) -> "Session":
        session = self._sessions.get(peer_id)
        if session is None:
            raise PeerGone(f"peer {peer_id} is not connected")
        return session

    def _content_routing(self) -> tuple[TrioThread, "ContentRouting"]:
        bridge, host = self._running()
        if host.content is None:
            raise MeshError(CONTENT_OFF)
        return bridge, host.content

    def _running(self) -> tuple[TrioThread, "Libp2pHost"]:
        if self._bridge is None or self._host is None:
            raise MeshError("the mesh is not running")
        return self._bridge, self._host


def _interface_ips() -> list[str]:
    try:
        interfaces = psutil.net_if_addrs()
    # Android refuses this to ordinary apps.
    except OSError:
        return []
    return [
        entry.address.partition("%")[0]
        for entries in interfaces.values()
        for entry in entries
        if entry.family.name in ("AF_INET", "AF_INET6")
    ]
