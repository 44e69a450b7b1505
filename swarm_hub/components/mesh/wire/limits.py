"""Bounds of what goes over a session, and the error of a full queue."""

from dataclasses import dataclass

from swarm_hub.exceptions import MeshError

MIB = 1024 * 1024


class QueueFull(MeshError):
    """The peer reads too slowly: its queue of control messages is full."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bounds of a transport, the same for every peer."""

    max_frame_bytes: int = MIB
    # A bulk message is one frame that nothing overtakes, hence much smaller than a frame may be:
    # it fits one yamux frame in one Noise message.
    max_bulk_message_bytes: int = 65_000
    # Bytes that may wait here for one peer, control and bulk together.
    max_queue_bytes: int = 8 * MIB
    max_connections: int = 1024
    max_streams_per_peer: int = 32
    # One session needs one; dials from both sides and a connection that is dying make a few more.
    max_connections_per_peer: int = 8
    # Many devices may share one address behind a router, yet one address must not fill the hub.
    max_connections_per_ip: int = 256
    # The most ever measured between two hubs is 38,000 messages and 98 MB a second
    # (docs/measurements.md): no honest peer goes beyond these, and a second of them may come at
    # once.
    max_messages_per_s: float = 40_000
    max_bytes_per_s: float = 200e6
    # Telemetry is a kilobyte every ten seconds.
    max_gossip_per_s: float = 20
    max_gossip_bytes_per_s: float = 256 * 1024
    # How long a peer may stay at a limit, being read more slowly, before it is disconnected.
    flood_patience_s: float = 10.0
    dial_timeout_s: float = 10.0
    send_timeout_s: float = 30.0
    disconnect_timeout_s: float = 0.8
    # Without any progress; a slow device may take longer as long as it gets on.
    start_stall_s: float = 30.0
    stop_timeout_s: float = 5.0
    # Two connections to one peer are left after simultaneous dials; the one without the session
    # is closed when both sides have surely settled.
    spare_connection_s: float = 3.0
    # Nothing of a hub's goes over a connection to a peer without a session, the DHT included.
    session_within_s: float = 10.0
