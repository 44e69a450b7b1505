"""Views of the networks that are banned."""

from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.nodes.networks import Networks
from swarm_hub.components.gateway.shapes import NetworkBan, NetworkBans, NetworkName
from swarm_hub.components.gateway.views.nodes import BAN
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.exceptions import Conflict, NotFound
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.bounds import is_text, shown
from swarm_hub.util.described import described

_NETWORK_MAX_CHARS: Final = 100


@described({"type": "string", "maxLength": _NETWORK_MAX_CHARS, "examples": ["10.1.0.0/16"]})
def _network(value: Any) -> str:
    if not is_text(value, _NETWORK_MAX_CHARS):
        raise vol.Invalid(f"expected a network such as 10.1.0.0/16, got {shown(value)}")
    return str(value)


_NAME: Final[dict[Any, Any]] = {vol.Required("network"): _network}


def views(banned: Networks) -> list[View]:
    """Return the views."""
    own, admin = _NetworkViews(banned), Scope.ADMIN
    ban = vol.Schema(
        {**_NAME, **BAN, vol.Optional("force", default=False): cv.boolean}, extra=vol.REMOVE_EXTRA
    )
    unban = vol.Schema(_NAME, extra=vol.REMOVE_EXTRA)
    return [
        View("GET", "/networks", own.list, Scope.READ, NetworkBans),
        View("POST", "/networks/ban", own.ban, admin, NetworkBan, body=ban, errors=(Conflict,)),
        View(
            "POST", "/networks/unban", own.unban, admin, NetworkName, body=unban, errors=(NotFound,)
        ),
    ]


class _NetworkViews:
    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def list(self, _request: Request) -> Json:
        """List the networks that are banned."""
        bans: NetworkBans = {"networks": await self._networks.banned()}
        return Json(bans)

    async def ban(self, request: Request) -> Json:
        """Ban a network; with `force` also one that this hub is in."""
        body = request.body
        return Json(
            await self._networks.ban(
                body["network"], body["reason"], body["for_s"], force=body["force"]
            )
        )

    async def unban(self, request: Request) -> Json:
        """Lift the ban of a network."""
        await self._networks.unban(request.body["network"])
        name: NetworkName = {"network": request.body["network"]}
        return Json(name)
