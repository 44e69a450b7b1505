"""The libp2p host inside the trio thread: connections, sessions, gossip and discovery.

It is long because what the library has no hooks for (limits, arbitration, what is closed when) is
wired to it in this one place.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import multiaddr  # type: ignore[import-untyped]
import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity_utils import create_identity_from_seed
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.transport.tcp.tcp import TCP

from swarm_hub.components.mesh.identity import IpNetwork, PeerAddress
from swarm_hub.components.mesh.transports.libp2p import arbitration
from swarm_hub.components.mesh.transports.libp2p import limits as libp2p_limits
from swarm_hub.components.mesh.transports.libp2p import policy as libp2p_policy
from swarm_hub.components.mesh.transports.libp2p.gossip import Gossip
from swarm_hub.components.mesh.transports.libp2p.handshake import Handshakes
from swarm_hub.components.mesh.transports.libp2p.mdns import LocalDiscovery
from swarm_hub.components.mesh.transports.libp2p.metering import Meters
from swarm_hub.components.mesh.transports.libp2p.patches import LeanYamux
from swarm_hub.components.mesh.transports.libp2p.session import StreamSession, Unread
from swarm_hub.components.mesh.transports.libp2p.streams import (
    connection_of,
    drain,
    remote_address,
    remote_ip,
    reset,
)
from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import MIB, TransportLimits
from swarm_hub.components.mesh.wire.metering import Allowance, FrameCounter
from swarm_hub.exceptions import MeshError

if TYPE_CHECKING:
    from swarm_hub.components.mesh.transports.libp2p.content_routing import ContentRouting

_LOGGER = logging.getLogger(__name__)

PROTOCOL_ID = TProtocol("/swarm-hub/3")
# Their streams and frames are the same; its `hello` is refused with the advice to update.
_OLDER_ID = TProtocol("/swarm-hub/2")
_HANDSHAKE_TIMEOUT_S = 5.0
_REUSE_TIMEOUT_S = 2.0
_MDNS_STOP_TIMEOUT_S = 2.0
_MAX_GOSSIP_BYTES = 4 * MIB
# How often within that time connections are looked at that have no session.
_LOOKS = 5


class HostEvents(Protocol):
    """What the host tells the asyncio side; called there, in order."""

    def session_live(self, session: StreamSession) -> None:
        """A session is live."""

    def session_ended(self, session: StreamSession, reason: str) -> None:
        """A live session has ended."""

    def messages_received(
        self, session: StreamSession, messages: Sequence[Message], size: int
    ) -> None:
        """A burst of messages; `size` bytes are to be credited to the session."""

    def room_freed(self, session: StreamSession) -> None:
        """A frame of the session's outbox was sent."""

    def gossip_received(self, peer_id: str, topic: str, payload: bytes) -> None:
        """A gossip message."""

    def peer_discovered(self, peer_id: str, addresses: tuple[str, ...]) -> None:
        """A peer was seen on the local network."""

    def peer_flooded(self, peer_id: str, reason: str) -> None:
        """A peer kept sending more than it may, and is being disconnected."""


class Libp2pHost:
    """Everything of libp2p that runs; lives and is called in the trio thread only."""

    def __init__(
        self,
        seed: bytes,
        listen: Sequence[PeerAddress],
        limits: TransportLimits,
        gossip_topics: Collection[str],
        bridge: TrioThread,
        events: HostEvents,
        content: "type[ContentRouting] | None" = None,
    ) -> None:
        key_pair = create_identity_from_seed(seed)
        noise = NoiseTransport(key_pair, noise_privkey=create_new_key_pair().private_key)
        streams = libp2p_limits.StreamLimits(limits, self._flooded)
        host = new_host(
            key_pair=key_pair,
            sec_opt={NOISE_ID: noise},
            muxer_opt={TProtocol(YAMUX_ID): LeanYamux},
            transports=[TCP()],
            resource_manager=streams,  # type: ignore[arg-type]
            connection_config=libp2p_policy.connection_config(limits),
            disable_identify_address_discovery=True,
        )
        assert isinstance(host, BasicHost)
        swarm = host.get_network()
        assert isinstance(swarm, Swarm)
        libp2p_policy.dial_only_when_asked(swarm)
        libp2p_policy.identify_nobody(host)
        libp2p_policy.contain_stream_errors(swarm)
        self._host = host
        self._swarm = swarm
        self._gate = libp2p_policy.BanGate(swarm)
        self._connection_limits = libp2p_limits.ConnectionLimits(swarm, limits)
        self._meters = Meters(Allowance.of(limits), self._flooded)
        self.gossip_unread = Unread()
        self._gossip = Gossip(host, gossip_topics, limits, self._gossiped, self._flooded)
        self._listen = listen
        self._limits = limits
        self._bridge = bridge
        self._events = events
        self._peer_id = str(host.get_id())
        self._sessions: dict[str, StreamSession] = {}
        self._handshakes = Handshakes(self._peer_id, self._sessions, limits)
        self._live_changed = trio.Event()
        # Set when a connection was made or has lost its session.
        self._connected = trio.Event()
        libp2p_policy.on_connection(swarm, self._look_at_connections)
        self._dialling: dict[str, trio.Lock] = {}
        self.content = None if content is None else content(host, self)
        for each in (PROTOCOL_ID, _OLDER_ID):
            host.set_stream_handler(each, self._accept)

    async def run(self, ready: Callable[[tuple[str, ...]], None], stopping: trio.Event) -> None:
        """Listen and serve until `stopping` is set, then disconnect every peer."""
        addresses = [multiaddr.Multiaddr(address.location) for address in self._listen]
        try:
            async with self._host.run(listen_addrs=addresses):
                for address in self._listen:
                    if address.location not in self._swarm.listeners:
                        raise libp2p_policy.why_not_listening(address)
                async with self._gossip.running():
                    self._bridge.start_soon(self._close_sessionless, stopping)
                    ready(tuple(str(address) for address in self._host.get_transport_addrs()))
                    await stopping.wait()
                    await self._disconnect_all("the hub is stopping")
        finally:
            self._gossip.close()
            # A dial that was under way when the peers were disconnected may have succeeded since.
            late = self._swarm.get_connections()
            await self._close_connections([one for one in late if isinstance(one, SwarmConn)])

    # Calls

    def is_live(self, peer_id: str) -> bool:
        """Whether there is a session with this peer."""
        return peer_id in self._sessions

    async def announce(self, addresses: Sequence[str]) -> None:
        """Announce the addresses by mDNS and report the hubs seen, until cancelled."""

        def seen(peer_id: str, theirs: tuple[str, ...]) -> None:
            self._bridge.to_loop(self._events.peer_discovered, peer_id, theirs)

        discovery = LocalDiscovery(self._swarm, seen)
        try:
            await trio.to_thread.run_sync(discovery.start, addresses)
            await trio.sleep_forever()
        except MeshError as error:
            _LOGGER.warning("No discovery on the local network: %s", error)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(_MDNS_STOP_TIMEOUT_S):
                await trio.to_thread.run_sync(discovery.stop)

    async def dial(self, address: PeerAddress, ips: Sequence[str]) -> None:
        """Ensure a live session with the peer at this address, whose host has these IPs."""
        peer_id = address.peer_id
        assert peer_id is not None
        if self._gate.refuses_peer(peer_id):
            raise MeshError(f"peer {peer_id} is banned")
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        try:
            with trio.fail_after(self._limits.dial_timeout_s):
                async with lock:
                    if peer_id not in self._sessions:
                        await self._open(address, ips, peer_id)
        except trio.TooSlowError:
            raise MeshError(
                f"no answer from {address} within {self._limits.dial_timeout_s:.0f} s"
            ) from None
        finally:
            libp2p_policy.forget_failed_dials(self._swarm, ID.from_string(peer_id))
            if not lock.locked():
                self._dialling.pop(peer_id, None)

    async def disconnect(self, peer_id: str, reason: str) -> None:
        """End the session and every connection with a peer, even if it is frozen."""
        session = self._sessions.get(peer_id)
        with trio.move_on_after(self._limits.disconnect_timeout_s):
            if session is not None:
                session.end(reason)
                await session.ended.wait()
        await self._close_connections(self._connections(peer_id))

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip a payload."""
        await self._gossip.publish(topic, payload)

    async def subscribe(self, topic: str) -> None:
        """Deliver the gossip of a topic from now on."""
        self._bridge.start_soon(self._gossip.deliver, await self._gossip.subscribe(topic), topic)

    def ban(self, peer_ids: Collection[str], networks: tuple[IpNetwork, ...]) -> None:
        """Replace the bans and drop the connections they hit."""
        self._gate.replace(peer_ids, networks)
        for peer, connections in self._swarm.get_connections_map().items():
            peer_id = str(peer)
            if self._gate.refuses_peer(peer_id) or any(
                self._gate.refuses_ip(ip) for ip in map(remote_ip, connections) if ip
            ):
                self._bridge.start_soon(self.disconnect, peer_id, "the peer is banned")

    # Opening and accepting

    async def _open(self, address: PeerAddress, ips: Sequence[str], peer_id: str) -> None:
        for connection in self._connections(peer_id):
            with trio.move_on_after(_REUSE_TIMEOUT_S):
                if await self._open_on(connection, peer_id):
                    return
            await self._close_connections([connection])
        if not await self._open_on(await self._connect(address, ips), peer_id):
            raise MeshError(f"peer {peer_id} at {address.location} refused the session")

    async def _connect(self, address: PeerAddress, ips: Sequence[str]) -> SwarmConn:
        assert address.peer_id is not None
        problem: Exception | None = None
        for ip in ips:
            if self._gate.refuses_ip(ip):
                raise MeshError(f"cannot dial {address.location}: {ip} is in a banned network")
            kind = "ip6" if ":" in ip else "ip4"
            target = multiaddr.Multiaddr(f"/{kind}/{ip}/tcp/{address.port}/p2p/{address.peer_id}")
            try:
                connection = await self._swarm.dial_addr(target, ID.from_string(address.peer_id))
            # The library wraps what went wrong in several layers of its own exceptions.
            except Exception as error:
                problem = error
                continue
            assert isinstance(connection, SwarmConn)
            return connection
        raise MeshError(f"cannot dial {address}: {_innermost(problem)}") from problem

    async def _open_on(self, connection: SwarmConn, peer_id: str) -> bool:
        """Open a stream on a connection and agree on it; True when a session is live."""
        try:
            with trio.fail_after(_HANDSHAKE_TIMEOUT_S):
                stream = await self._negotiated(connection)
                session = await self._handshakes.settle(
                    stream, peer_id, remote_address(connection), opened_here=True
                )
        # A connection that looks open but isn't shows itself here, by any kind of error.
        except Exception:
            return peer_id in self._sessions
        if session is not None:
            self._go_live(session)
            self._bridge.start_soon(self._run_session, session)
            return True
        # Both have dialled at once: the other stream becomes the session in a moment.
        await reset(stream)
        with trio.move_on_after(_HANDSHAKE_TIMEOUT_S):
            while peer_id not in self._sessions:
                await self._live_changed.wait()
        return peer_id in self._sessions

    async def _negotiated(self, connection: SwarmConn) -> INetStream:
        stream = await connection.new_stream()
        try:
            selected = await self._host.multiselect_client.select_one_of(
                [PROTOCOL_ID, _OLDER_ID], MultiselectCommunicator(stream), int(_HANDSHAKE_TIMEOUT_S)
            )
        except BaseException:
            await reset(stream)
            raise
        stream.set_protocol(selected)
        metered: INetStream = self._meters.metered(
            stream, str(stream.muxed_conn.peer_id), FrameCounter()
        )
        return metered

    async def _accept(self, stream: INetStream) -> None:
        """Take a stream that a peer opened; runs in the task of the library."""
        peer_id = str(stream.muxed_conn.peer_id)
        stream = self._meters.metered(stream, peer_id, FrameCounter())
        session = None
        try:
            with trio.fail_after(_HANDSHAKE_TIMEOUT_S):
                session = await self._handshakes.settle(
                    stream, peer_id, remote_address(connection_of(stream)), opened_here=False
                )
        # Errors of one peer's stream must not reach the library's nursery.
        except Exception as error:
            _LOGGER.debug("Peer %s opened no session: %r", peer_id, error)
        if session is None:
            # The answer `busy` is on its way; the side that opened the stream closes it.
            with trio.move_on_after(_HANDSHAKE_TIMEOUT_S):
                await drain(stream)
            await reset(stream)
            return
        self._go_live(session)
        await self._run_session(session)

    # Sessions

    def _go_live(self, session: StreamSession) -> None:
        replaced = self._sessions.get(session.peer_id)
        self._sessions[session.peer_id] = session
        self._handshakes.remember(session)
        if replaced is not None:
            replaced.cut("replaced by a newer connection")
            self._bridge.to_loop(self._events.session_ended, replaced, replaced.reason)
        self._bridge.to_loop(self._events.session_live, session)
        self._live_changed.set()
        self._live_changed = trio.Event()
        if self.content is not None:
            self._bridge.start_soon(self.content.meet, session.peer_id, session.ended)

    async def _run_session(self, session: StreamSession) -> None:
        if arbitration.is_arbiter(self._peer_id, session.peer_id):
            self._bridge.start_soon(self._close_spares, session)
        try:
            await session.run(self._deliver, self._room_freed)
        # A bug in one session must not take the others down.
        except Exception as error:
            _LOGGER.exception("The session with %s failed", session.peer_id)
            session.reason = f"an error on this side: {error}"
        finally:
            if self._sessions.get(session.peer_id) is session:
                del self._sessions[session.peer_id]
                self._bridge.to_loop(self._events.session_ended, session, session.reason)
            session.ended.set()
            self._look_at_connections()
            with trio.CancelScope(shield=True):
                await self._close_after(session)

    async def _close_after(self, session: StreamSession) -> None:
        newer = self._sessions.get(session.peer_id)
        connection = connection_of(session.stream)
        if newer is not None and connection_of(newer.stream) is connection:
            await reset(session.stream)
            return
        await self._close_connections([connection])

    async def _close_spares(self, session: StreamSession) -> None:
        with trio.move_on_after(self._limits.spare_connection_s):
            await session.ended.wait()
        if self._sessions.get(session.peer_id) is session:
            used = connection_of(session.stream)
            spares = [one for one in self._connections(session.peer_id) if one is not used]
            await self._close_connections(spares)

    async def _close_sessionless(self, stopping: trio.Event) -> None:
        """Close connections whose peer has no session for too long: it is no hub of this protocol.

        The DHT and blobs are for peers with a session, so nothing that is wanted goes over these.
        """
        since: dict[SwarmConn, float] = {}
        while not stopping.is_set():
            self._connected = trio.Event()
            now = trio.current_time()
            without = [
                one
                for peer, connections in self._swarm.get_connections_map().items()
                if str(peer) not in self._sessions
                for one in connections
                if isinstance(one, SwarmConn) and not one.is_closed
            ]
            since = {one: since.get(one, now) for one in without}
            late = [one for one in without if now - since[one] >= self._limits.session_within_s]
            for one in late:
                _LOGGER.info(
                    "Closed a connection of %s: no session was opened", one.muxed_conn.peer_id
                )
            await self._close_connections(late)
            if since:
                with trio.move_on_after(self._limits.session_within_s / _LOOKS):
                    await stopping.wait()
            else:
                # At the end of the host this is cancelled.
                await self._connected.wait()

    def _look_at_connections(self) -> None:
        self._connected.set()

    def _deliver(self, session: StreamSession, messages: Sequence[Message], size: int) -> None:
        self._bridge.to_loop(self._events.messages_received, session, messages, size)

    def _room_freed(self, session: StreamSession) -> None:
        if session.outbox.bulk_wanted:
            self._bridge.to_loop(self._events.room_freed, session)

    def _gossiped(self, peer_id: str, topic: str, payload: bytes) -> None:
        unread = self.gossip_unread
        # Gossip may be lost, so an asyncio loop that lags behind gets no more of it.
        if unread.waiting_bytes < _MAX_GOSSIP_BYTES and not self._gate.refuses_peer(peer_id):
            unread.handed_bytes += len(payload)
            self._bridge.to_loop(self._events.gossip_received, peer_id, topic, payload)

    def _flooded(self, peer_id: str, reason: str) -> None:
        self._bridge.to_loop(self._events.peer_flooded, peer_id, reason)
        self._bridge.start_soon(self.disconnect, peer_id, reason)

    # Connections

    def _connections(self, peer_id: str) -> list[SwarmConn]:
        found = self._swarm.get_connections(ID.from_string(peer_id))
        return [one for one in found if isinstance(one, SwarmConn) and not one.is_closed]

    async def _close_connections(self, connections: Sequence[SwarmConn]) -> None:
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(libp2p_policy.close_connection, connection)

    async def _disconnect_all(self, reason: str) -> None:
        async with trio.open_nursery() as nursery:
            for peer in self._swarm.get_connections_map():
                nursery.start_soon(self.disconnect, str(peer), reason)


def _innermost(error: BaseException | None) -> str:
    while inner := _inner(error):
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__) if error is not None else "no address found"


def _inner(error: BaseException | None) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return None if error is None else error.__cause__ or error.__context__
