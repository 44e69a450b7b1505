"""The gateways of this store: what this one tells the others, and what it knows of them."""

from collections.abc import Callable, Sequence

from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.shapes import GatewayDetails
from swarm_hub.components.mesh import Mesh, without_loopback
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.models.presence import Presence
from swarm_hub.storage.queries import presence


class Gateways:
    """Describes this gateway, and lists those that live."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        fleet: Fleet,
        urls: Callable[[], Sequence[str]],
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._fleet = fleet
        self._urls = urls

    def own(self) -> Presence:
        """Return what this gateway tells of itself now."""
        kinds = self._fleet.kinds()
        addresses = self._mesh.addresses()
        return Presence(
            self._mesh.peer_id,
            self._hub.name,
            __version__,
            self._channel.public_key.hex(),
            tuple(self._urls()),
            without_loopback(addresses) if addresses else (),
            **self._fleet.counts(),
            idle=sum(kind.idle for kind in kinds),
            kinds=kinds,
        )

    async def living(self) -> list[Presence]:
        """Return the gateways that live, this one among them."""
        own, store = self.own(), self._hub.store
        others = await store.read(presence.living) if store.shared else []
        found = {each.peer_id: each for each in others}
        return list({**found, own.peer_id: own}.values())

    async def list(self) -> list[GatewayDetails]:
        """Return the gateways that live, by name."""
        found = [self._described(each) for each in await self.living()]
        return sorted(found, key=lambda each: (each["name"], each["gateway_id"]))

    def _described(self, told: Presence) -> GatewayDetails:
        return {
            "gateway_id": told.peer_id,
            "name": told.name,
            "version": told.version,
            "urls": list(told.urls),
            "addresses": list(told.addresses),
            "nodes": told.nodes,
            "slots": told.slots,
            "idle_slots": told.idle,
            "answers": told.peer_id == self._mesh.peer_id,
        }
