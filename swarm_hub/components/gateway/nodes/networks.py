"""Networks that an administrator keeps out: every address of a range, forever or for a while."""

from swarm_hub.components.gateway.shapes import NetworkBan
from swarm_hub.components.mesh import Ban, Mesh, own_within, parse_network
from swarm_hub.core import Hub
from swarm_hub.exceptions import Conflict, InvalidInput, MeshError, NotFound
from swarm_hub.util.clock import isoformat


class Networks:
    """Bans networks, and tells which are banned."""

    def __init__(self, hub: Hub, mesh: Mesh) -> None:
        self._hub = hub
        self._mesh = mesh

    async def banned(self) -> list[NetworkBan]:
        """Return the networks that are banned now."""
        return [_described(cidr, ban) for cidr, ban in self._mesh.bans.networks().items()]

    async def ban(self, text: str, reason: str, for_s: float | None, *, force: bool) -> NetworkBan:
        """Refuse a network from now on, and cut its connections.

        Raises InvalidInput for anything that isn't a network, Conflict for one that this hub itself
        is in.
        """
        try:
            network = parse_network(text)
        except MeshError as error:
            raise InvalidInput("invalid_network", f"network: {error}") from None
        own = own_within(network, self._mesh.addresses())
        if own is not None and not force:
            raise Conflict(
                "own_network",
                f"this hub's own address {own} is in {network}: hubs on this device or in its "
                "network would be refused too; if that is meant, ban it with force",
            )
        until = None if for_s is None else self._hub.clock.time() + for_s
        ban = Ban(reason or "banned by an administrator", until)
        await self._mesh.bans.add_network(network, ban.reason, ban.until)
        return _described(str(network), ban)

    async def unban(self, text: str) -> None:
        """Let a network in again; raises NotFound for one that is not banned."""
        try:
            network = parse_network(text)
        except MeshError as error:
            raise InvalidInput("invalid_network", f"network: {error}") from None
        if not await self._mesh.bans.lift_network(network):
            raise NotFound("not_banned", f"{network} is not banned; see: swarm-hub node bans")


def _described(cidr: str, ban: Ban) -> NetworkBan:
    until = None if ban.until is None else isoformat(ban.until)
    return {"network": cidr, "reason": ban.reason, "until": until}
