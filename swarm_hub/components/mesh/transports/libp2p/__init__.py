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

    _check_ports(options.listen)
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


def _check_ports(listen: tuple[str, ...]) -> None:
    """Refuse a port in use at once; the library itself would say so only seconds later."""
    for text in listen:
        address = parse_listen_address(text)
        family = socket.AF_INET if address.host_kind == "ip4" else socket.AF_INET6
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
                probe.listen(1)
            except OSError as error:
                raise SetupError(
                    f"can't listen on {text}: {os.strerror(error.errno or 0)}; another program "
                    "uses the port, or the address is not this device's: change mesh: listen"
                ) from error
