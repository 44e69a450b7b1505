"""Finding hubs on the local network with mDNS, in threads of its own."""

from collections.abc import Callable, Sequence
from typing import Any

from swarm_hub.components.mesh.identity import is_peer_id
from swarm_hub.components.mesh.transports.libp2p.lean_import import import_mdns
from swarm_hub.exceptions import MeshError
from swarm_hub.util.extras import what_to_install


class LocalDiscovery:
    """Announces this hub and reports the others; every call blocks, so call it in a thread."""

    def __init__(self, swarm: Any, on_peer: Callable[[str, tuple[str, ...]], None]) -> None:
        self._swarm = swarm
        self._own_id = str(swarm.get_peer_id())
        self._on_peer = on_peer
        self._discovery: Any = None
        self._registry: Any = None

    def start(self, addresses: Sequence[str]) -> None:
        """Announce the addresses and listen for others."""
        try:
            module: Any = import_mdns()
        except ImportError as error:
            raise MeshError(what_to_install(error) or f"it can't be imported: {error}") from error
        from libp2p.discovery.events.peerDiscovery import peerDiscovery

        self._registry = peerDiscovery
        self._registry.register_peer_discovered_handler(self._discovered)
        try:
            self._discovery = module.create_mdns_discovery(
                self._swarm, listen_addrs=list(addresses)
            )
            self._discovery.broadcaster.register()
        # zeroconf has exceptions of its own besides OSError, e.g. without a usable interface.
        except Exception as error:
            self.stop()
            raise MeshError(f"mDNS is not available: {error}") from error

    def stop(self) -> None:
        """Take the announcement back and close the sockets."""
        if self._registry is not None:
            self._registry.unregister_peer_discovered_handler(self._discovered)
        if self._discovery is not None:
            discovery, self._discovery = self._discovery, None
            discovery.broadcaster.unregister()
            discovery.listener.stop()
            discovery.zeroconf.close()

    def _discovered(self, info: Any) -> None:
        peer_id = str(info.peer_id)
        if peer_id != self._own_id and is_peer_id(peer_id):
            self._on_peer(peer_id, tuple(f"{address}/p2p/{peer_id}" for address in info.addrs))
