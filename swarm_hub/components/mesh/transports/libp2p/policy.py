"""How a libp2p 0.8.1 host is set up: what it may do by itself, whom it admits, how it closes.

This also works around defects, each of them named; see `libp2p_patches` for the patched code.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable, Collection

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee, IRawConnection, ISecureConn
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.exceptions import SecurityUpgradeFailure
from multiaddr import Multiaddr  # type: ignore[import-untyped]

from swarm_hub.components.mesh.identity import IpNetwork, PeerAddress
from swarm_hub.components.mesh.transports.libp2p.patches import tcp_stream
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.exceptions import MeshError

_LOGGER = logging.getLogger(__name__)

_NEGOTIATION_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0


def connection_config(limits: TransportLimits) -> ConnectionConfig:
    """The library's connection settings."""
    return ConnectionConfig(
        max_connections=limits.max_connections,
        min_connections=0,
        low_watermark=0,
        high_watermark=limits.max_connections,
        inbound_upgrade_timeout=limits.dial_timeout_s,
        outbound_upgrade_timeout=limits.dial_timeout_s,
        inbound_stream_protocol_negotiation_timeout=_NEGOTIATION_TIMEOUT_S,
        outbound_stream_protocol_negotiation_timeout=_NEGOTIATION_TIMEOUT_S,
    )


def dial_only_when_asked(swarm: Swarm) -> None:
    """Let the hub alone decide whom to dial and how often.

    0.8.1 retries a dial three times, and its auto-connector dials every peer it ever heard of
    until it has half of `high_watermark` connections, whatever `low_watermark` is.
    """
    swarm.retry_config = RetryConfig(max_retries=0)
    swarm.auto_connector = _NoAutoConnector()  # type: ignore[assignment]


class _NoAutoConnector:
    _is_connecting = False

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """There is nothing to stop."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Run nothing."""

    async def maybe_connect(self) -> None:
        """Connect to nobody."""

    def record_disconnect(self, peer: ID) -> None:
        """Remember nothing."""


def identify_nobody(host: BasicHost) -> None:
    """Ask no peer what it is: `hello` says that of a hub, and others are not dialled.

    0.8.1 asks on every connection, which is a stream each way; others are answered all the same.
    """
    host._schedule_identify = _ask_nothing  # type: ignore[method-assign, assignment]


def _ask_nothing(_peer_id: ID, *, reason: str) -> None:
    """Leave a peer unasked."""


def on_connection(swarm: Swarm, made: Callable[[], None]) -> None:
    """Have `made` called for each new connection, dialled or accepted."""
    swarm.register_notifee(_Connected(made))


class _Connected(INotifee):
    def __init__(self, made: Callable[[], None]) -> None:
        self._made = made

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """Tell of it."""
        self._made()

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """Of no interest."""

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Of no interest."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Of no interest."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Of no interest."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Of no interest."""


def forget_failed_dials(swarm: Swarm, peer: ID) -> None:
    """0.8.1 refuses for 60 s to dial a peer that it failed to reach once."""
    swarm._negative_peer_cache.evict(str(peer))


def why_not_listening(address: PeerAddress) -> MeshError:
    """Find out why an address is not listened on.

    0.8.1 only logs it; binding the address once more tells.
    """
    family = socket.AF_INET6 if address.host_kind == "ip6" else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        return MeshError(f"cannot listen on {address.location}: {error.strerror}")
    return MeshError(f"cannot listen on {address.location}: the address is not usable")


async def close_connection(connection: SwarmConn) -> None:
    """Close a connection reliably, its socket first, even if the peer is frozen.

    0.8.1: closing politely waits for a write, which a peer that reads nothing never lets through;
    a close that is cancelled is never done again; and a connection that is closing counts as
    open for another 0.1 s.
    """
    connection.swarm.remove_conn(connection)
    with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_TIMEOUT_S):
        try:
            tcp_stream(connection.muxed_conn).stream.socket.close()
            await connection.close()
        # Anything already half closed may raise here; the socket is closed.
        except Exception:
            _LOGGER.debug("Closing a connection complained", exc_info=True)


def contain_stream_errors(swarm: Swarm) -> None:
    """Keep an error in the handling of one inbound stream from ending the whole host.

    0.8.1 lets it propagate through the connection's nursery into the service that owns all of
    them, and a peer can cause one, e.g. by resetting a stream while a protocol is negotiated.
    """
    handle = swarm.common_stream_handler

    async def contained(stream: INetStream) -> None:
        try:
            await handle(stream)
        except Exception:
            _LOGGER.debug("A stream of %s failed", stream.muxed_conn.peer_id, exc_info=True)
            with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_TIMEOUT_S):
                await stream.reset()

    swarm.set_stream_handler(contained)


class BanGate:
    """Refuses banned peers and networks at connection, in both directions.

    0.8.1 has no hook for a ban by peer id: the security upgrade is where the id is first known.
    """

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._banned: frozenset[str] = frozenset()
        self._refused: tuple[IpNetwork, ...] = ()
        self._upgrade = swarm.upgrader.upgrade_security
        swarm.upgrader.upgrade_security = self._upgrade_security  # type: ignore[method-assign]

    def replace(self, peer_ids: Collection[str], networks: tuple[IpNetwork, ...]) -> None:
        """Set what is banned from now on."""
        self._banned = frozenset(peer_ids)
        # A listener on IPv6 may see an IPv4 address in its mapped form.
        self._refused = (*networks, *map(_mapped, networks))
        self._swarm.connection_gate.deny_list = list(self._refused)

    def refuses_peer(self, peer_id: str) -> bool:
        """Whether this peer is banned."""
        return peer_id in self._banned

    def refuses_ip(self, ip: str) -> bool:
        """Whether this IP address is in a banned network."""
        address = ipaddress.ip_address(ip)
        return any(address in network for network in self._refused)

    async def _upgrade_security(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        secured = await self._upgrade(raw_conn, is_initiator, peer_id)
        if self.refuses_peer(str(secured.get_remote_peer())):
            await secured.close()
            raise SecurityUpgradeFailure("the peer is banned")
        return secured


def _mapped(network: IpNetwork) -> IpNetwork:
    if network.version == 6:
        return network
    return ipaddress.ip_network(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
