"""Tells connected workers which gateways of this store live, so that they join those, too."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from swarm_hub.components.mesh import Mesh, PeerUp
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.core import Hub
from swarm_hub.models.messages import GATEWAYS, GATEWAYS_MAX, GatewayPlace
from swarm_hub.models.presence import Presence

_LOOK_EVERY_S: Final = 1.0
# Workers forget a gateway that is not named for a week.
_AGAIN_EVERY_S: Final = 3600.0


class Introductions:
    """Sends `gateways` to each worker that comes, and to all when the list has changed."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        living: Callable[[], Sequence[Presence]],
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._living = living
        self._told: dict[str, Any] = {}
        self._again_at = 0.0
        hub.bus.listen(PeerUp, self._on_peer_up)
        hub.tasks.every(_LOOK_EVERY_S, self._look, "introductions of gateways")

    def _on_peer_up(self, up: PeerUp) -> None:
        if self._told and "worker" in up.hello.capabilities:
            self._channel.send(up.peer_id, GATEWAYS, self._told)

    async def _look(self) -> None:
        now, fields = self._hub.clock.monotonic(), _fields(self._living())
        if not fields or (fields == self._told and now < self._again_at):
            return
        self._told, self._again_at = fields, now + _AGAIN_EVERY_S
        for peer_id, hello in self._mesh.peers().items():
            if "worker" in hello.capabilities:
                self._channel.send(peer_id, GATEWAYS, fields)


def _fields(living: Sequence[Presence]) -> dict[str, Any]:
    places = [
        GatewayPlace(each.peer_id, bytes.fromhex(each.key), each.addresses)
        for each in sorted(living, key=lambda each: each.peer_id)
        if each.key and each.addresses
    ]
    return {"gateways": [place.to_wire() for place in places[:GATEWAYS_MAX]]} if places else {}
