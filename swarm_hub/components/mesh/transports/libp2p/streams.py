"""What the transport reads off libp2p's streams and connections, and how it gives them up."""

from typing import Any, Final

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.network.connection.swarm_connection import SwarmConn

from swarm_hub.components.mesh.transports.libp2p.session import READ_BYTES

_RESET_TIMEOUT_S: Final = 0.3


def connection_of(stream: Any) -> SwarmConn:
    """The connection that a stream belongs to."""
    connection = stream.swarm_conn
    assert isinstance(connection, SwarmConn)
    return connection


def remote_address(connection: INetConn) -> str:
    """Where the other side is, as a multiaddress; empty if that is unknown."""
    addresses = connection.get_transport_addresses()
    return str(addresses[0]) if addresses else ""


def remote_ip(connection: INetConn) -> str:
    """The IP address of the other side; empty if it is unknown."""
    parts = remote_address(connection).split("/")
    return parts[2] if len(parts) > 2 else ""


async def reset(stream: Any) -> None:
    """Give a stream up, whatever state it is in."""
    with trio.CancelScope(shield=True), trio.move_on_after(_RESET_TIMEOUT_S):
        try:
            await stream.reset()
        # The stream is abandoned either way.
        except Exception:
            return


async def drain(stream: INetStream) -> None:
    """Read a stream to its end and keep nothing."""
    try:
        while await stream.read(READ_BYTES):
            pass
    except Exception:
        return
