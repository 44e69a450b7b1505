"""What this hub offers others, as registered by its components, and which peers it thus wants."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swarm_hub.components.mesh.peers.peer import Hello


@dataclass(frozen=True, slots=True)
class Capability:
    """What a component adds to this hub's `hello`, and what it asks of the mesh in return."""

    name: str
    properties: Mapping[str, Any]
    # The capability that makes a peer useful; a hub that has both is its own peer.
    works_with: str | None = None
    # Whether a peer is useful for another reason.
    wants: Callable[[Hello], bool] | None = None
    # Whether to dial the hubs that a transport discovers.
    seeks_peers: bool = False
    # Whether to hear the gossip of others; every hub may publish.
    hears_gossip: bool = False
    # Whether to listen for connections of the bulk and of the express plane.
    listens_for_bulk: bool = False
    # Whether to ask the peers that it works with for express connections.
    asks_for_express: bool = False

    def is_of_use(self, hello: Hello) -> bool:
        """Whether this capability has a use for a peer."""
        return self.works_with in hello.capabilities or (
            self.wants is not None and self.wants(hello)
        )


class Capabilities:
    """The capabilities of this hub; complete once every component is set up."""

    def __init__(self) -> None:
        self._all: list[Capability] = []
        # In the form that `hello` carries.
        self.told: dict[str, Mapping[str, Any]] = {}

    def add(self, capability: Capability) -> None:
        """Add a capability; each name may be added once."""
        if capability.name in self.told:
            raise ValueError(f"the capability {capability.name} is registered already")
        self._all.append(capability)
        self.told[capability.name] = capability.properties

    def want(self, hello: Hello) -> bool:
        """Whether to stay connected to a peer."""
        return any(each.is_of_use(hello) for each in self._all)

    @property
    def include_own_peer(self) -> bool:
        """Whether this hub has work for itself."""
        return any(each.works_with in self.told for each in self._all)

    @property
    def seek_peers(self) -> bool:
        """Whether to dial hubs that were discovered."""
        return any(each.seeks_peers for each in self._all)

    @property
    def hear_gossip(self) -> bool:
        """Whether to hear the gossip of others."""
        return any(each.hears_gossip for each in self._all)

    def asks_for_express(self, own_id: str, peer_id: str, hello: Hello) -> bool:
        """Whether this side is the one of the two that asks for an express connection."""
        asking = [each for each in self._all if each.asks_for_express]
        we_ask = any(each.works_with in hello.capabilities for each in asking)
        they_ask = any(
            each.name in hello.capabilities and each.works_with in self.told for each in asking
        )
        return we_ask and (not they_ask or own_id < peer_id)

    @property
    def listen_for_bulk(self) -> bool:
        """Whether to listen for the bulk and the express plane."""
        return any(each.listens_for_bulk for each in self._all)
