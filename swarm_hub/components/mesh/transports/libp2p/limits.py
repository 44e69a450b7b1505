"""How many connections and streams one peer and one address may have to a libp2p 0.8.1 host."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from libp2p.abc import IRawConnection, ISecureConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.exceptions import SecurityUpgradeFailure

from swarm_hub.components.mesh.wire.limits import TransportLimits

# This many refused streams can't be a peer's mistake any more.
_REFUSALS_MAX: Final = 1000


class StreamLimits:
    """Stands in for the library's resource manager: bounds the streams of each peer.

    0.8.1's own default one refuses connections by the memory use of the whole machine and has
    a circuit breaker; what a hub needs from it is that one peer can't open streams without end.
    """

    # The library looks these up.
    connection_lifecycle = None
    graceful_degradation = None

    def __init__(
        self, limits: TransportLimits, flooded: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._max_streams = limits.max_streams_per_peer
        self._flooded = flooded
        self._streams: dict[str, int] = {}
        self._refusals: Counter[str] = Counter()
        self.limits = _TotalStreams(limits.max_streams_per_peer * limits.max_connections)

    def open_connection(self, peer_id: object = None, **_details: object) -> "StreamLimits":
        """Admit every connection: they are counted elsewhere."""
        return self

    def close(self) -> None:
        """A connection's end needs no bookkeeping here."""

    def acquire_stream(self, peer_id: str, _direction: object) -> bool:
        """Count a stream, or refuse it."""
        count = self._streams.get(peer_id, 0)
        if count >= self._max_streams:
            self._refused(peer_id)
            return False
        self._streams[peer_id] = count + 1
        return True

    def release_stream(self, peer_id: str, _direction: object) -> None:
        """Count a stream's end."""
        count = self._streams.get(peer_id, 0)
        if count <= 1:
            self._streams.pop(peer_id, None)
            self._refusals.pop(peer_id, None)
        else:
            self._streams[peer_id] = count - 1

    def _refused(self, peer_id: str) -> None:
        self._refusals[peer_id] += 1
        if self._refusals[peer_id] % _REFUSALS_MAX == 0:
            self._flooded(
                peer_id, f"flooding: {_REFUSALS_MAX} streams beyond {self._max_streams} at a time"
            )


class _TotalStreams:
    def __init__(self, max_streams: int) -> None:
        self.max_streams = max_streams


class ConnectionLimits:
    """Bounds the connections of each peer and, from the first byte on, of each IP address."""

    def __init__(self, swarm: Swarm, limits: TransportLimits) -> None:
        self._swarm = swarm
        self._limits = limits
        self._by_ip: Counter[str] = Counter()
        self._accept = swarm._do_handle_inbound_connection
        self._upgrade = swarm.upgrader.upgrade_security
        swarm._do_handle_inbound_connection = self._inbound  # type: ignore[method-assign]
        swarm.upgrader.upgrade_security = self._secured  # type: ignore[method-assign]

    async def _inbound(self, read_write_closer: Any, maddr: Any, failure_event: Any) -> None:
        remote = read_write_closer.get_remote_address()
        ip = "" if remote is None else str(remote[0])
        if self._by_ip[ip] >= self._limits.max_connections_per_ip:
            await read_write_closer.close()
            return
        self._by_ip[ip] += 1
        try:
            await self._accept(read_write_closer, maddr, failure_event)
        finally:
            self._by_ip[ip] -= 1
            if not self._by_ip[ip]:
                del self._by_ip[ip]

    async def _secured(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        secured = await self._upgrade(raw_conn, is_initiator, peer_id)
        peer = secured.get_remote_peer()
        if len(self._swarm.get_connections(peer)) >= self._limits.max_connections_per_peer:
            await secured.close()
            raise SecurityUpgradeFailure("the peer has too many connections")
        return secured
