"""The transport between devices: libp2p, run by trio in a thread of its own."""

import importlib
import os
import socket

from swarm_hub.components.mesh.identity import parse_listen_address
from swarm_hub.components.mesh.transports.base import Transport, TransportOptions
from swarm_hub.exceptions import SetupError


def make(options: TransportOptions) -> Transport:
    """Return the transport of a hub; raises SetupError for a port in use."""
    # Imported here because a hub with another transport needs none of it.
    from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport

    # A port in use is refused at once; the library itself would say so only seconds later.
    for address in options.listen:
        listening(address).close()
    return Libp2pTransport(
        options.seed,
        listen=options.listen,
        mdns=options.mdns,
        limits=options.limits,
        gossip_topics=options.gossip_topics,
        requests=options.requests,
    )


def load() -> None:
    """Import what a hub with this transport imports in its thread; raises ImportError."""
    from swarm_hub.components.mesh.transports.libp2p import lean_import

    lean_import.import_libp2p()
    # Only now, as they import libp2p themselves.
    for name in ("host", "patches", "transport"):
        importlib.import_module(f"{__name__}.{name}")


def listening(text: str) -> socket.socket:
    """Return a socket that listens on an address; raises SetupError if that is not possible."""
    address = parse_listen_address(text)
    family = socket.AF_INET if address.host_kind == "ip4" else socket.AF_INET6
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise SetupError(
            f"can't listen on {text}: {os.strerror(error.errno or 0)}; another program "
            "uses the port, or the address is not this device's: change mesh: listen"
        ) from error
    return listener
